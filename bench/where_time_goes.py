"""Where the time of a step goes, by kind of kernel.

    cargo build --release
    python3 bench/where_time_goes.py

Writes docs/results/profile.json and the section of docs/performance.md.
"""

import argparse

import pages


def section(row):
    headings = [f"{row['work']}, {row['shape']}, {row['dtype']}", "seconds per step", "share"]
    parts = [
        [part["kernels"], f"{part['seconds']:.4f}", f"{100 * part['share']:.1f} %"]
        for part in row["profile"]
        if 0.001 <= part["share"]
    ]
    total = sum(part["seconds"] for part in row["profile"])
    return pages.table(headings, [*parts, ["all", f"{total:.4f}", "100 %"]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hearken", default=pages.HEARKEN)
    parser.add_argument("--works", nargs="+", default=["sft", "generate", "ppo"])
    parser.add_argument("--shape", default="small30")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    chosen = ["--shape", options.shape, "--dtype", options.dtype, "--steps", options.steps]
    rows = [
        pages.hearken(options.hearken, work, *chosen, "--profile")[0] for work in options.works
    ]
    report = {
        "machine": pages.machine(), "date": pages.today(), "commit": pages.commit(), "rows": rows
    }
    pages.write_json(pages.RESULTS / "profile.json", report)
    note = (
        f"{pages.machine_sentence(report['machine'])}. {report['date']}, commit "
        f"{report['commit']}; mean of {options.steps} steps. [All numbers](results/profile.json).\n"
    )
    pages.replace_section("where time goes", "\n".join([note, *map(section, rows)]))


if __name__ == "__main__":
    main()
