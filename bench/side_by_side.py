"""Hearken and TRL (PyTorch) at the same work on the same machine, in turns.

    cargo build --release
    python3 bench/side_by_side.py --python venv/bin/python --ppo-packages trl-with-ppo

(bench/trl_peer.py says how to install both.) Each round runs Hearken, then TRL, each in a process of
its own, for every work, shape and dtype. Writes docs/results/performance.json and the section of
docs/performance.md. `--add` keeps the results of works, shapes and dtypes that are not measured anew.

`--kernels avx2` has both run with what a processor without AVX-512 has, and writes
docs/results/performance-avx2.json and that family's own section. `--processor-time` is for a machine that
has other work: both run on one thread, and what counts is not the time that passes but the seconds of a
processor that the steps take, those of a run with no more than the first step subtracted.
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import tempfile

import pages

PEER = pathlib.Path(__file__).with_name("trl_peer.py")
# What makes PyTorch run with the instructions of a family.
PEER_FAMILIES = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
}
WORKS = ["sft", "reward", "dpo", "grpo", "generate", "ppo"]
# All works on the small model, the two most used on the larger ones.
CELLS = [("small30", work) for work in WORKS] + list(
    itertools.product(["smol135", "gpt2"], ["sft", "generate"])
)
# Speed over TRL in bf16 that each work is meant to pass, and the share of TRL's memory to stay under.
TARGETS = {"sft": 2.3, "reward": 1.7, "dpo": 3.3, "grpo": 4.5, "generate": 4.0, "ppo": 2.7}
# The same without AVX-512, in either precision.
FAMILY_TARGETS = {
    "avx2": {"sft": 1.1, "reward": 1.3, "dpo": 1.6, "grpo": 1.8, "generate": 1.4, "ppo": 1.15},
}
MEMORY_TARGET = 0.5
BANDWIDTH_TARGET = 0.6


# Tokens of a step.
TOKENS = {"sft": 2048, "reward": 4096, "dpo": 4096, "grpo": 1024, "generate": 2048, "ppo": 992}


def processor_time(run, steps, work):
    """The last row of a run on one thread, with tokens per second of a processor. `run` takes a number of
    steps that count and gives output rows and seconds of a processor."""
    _, first = run(1)
    row, all_of_them = run(1 + steps)
    # What follows from the time that passed says nothing here.
    row = {name: value for name, value in row.items() if name not in ("gflops", "peak_share")}
    return {**row, "tokens_per_s": TOKENS[work] * steps / (all_of_them - first)}


def peer_environment(options, work):
    environment = dict(PEER_FAMILIES.get(options.kernels, {}))
    if work == "ppo":
        environment["PYTHONPATH"] = str(pathlib.Path(options.ppo_packages).resolve())
    return environment


def peer_row(output, memory):
    lines = [line for line in output.splitlines() if line.startswith('{"work"')]
    return {**json.loads(lines[-1]), "peak_rss_mb": memory}


def peer_by_processor(options, work, shape, dtype):
    def run(steps):
        chosen = ["--shape", shape, "--dtype", dtype, "--steps", steps, "--threads", 1]
        environment = peer_environment(options, work)
        output, memory, seconds = pages.run_timed([options.python, PEER, work, *chosen], environment)
        return peer_row(output, memory), seconds

    return processor_time(run, options.steps, work)


def own_by_processor(options, work, shape, dtype):
    def run(steps):
        chosen = ["--shape", shape, "--dtype", dtype, "--steps", steps, "--threads", 1]
        with tempfile.TemporaryDirectory() as folder:
            results = pathlib.Path(folder) / "results.json"
            command = [options.hearken, "bench", "--work", work, *chosen, "--json", results]
            _, memory, seconds = pages.run_timed(command)
            return {**json.loads(results.read_text())[0], "peak_rss_mb": memory}, seconds

    return processor_time(run, options.steps, work)


def peer(options, work, shape, dtype):
    command = [
        options.python, PEER, work, "--shape", shape, "--dtype", dtype, "--steps", options.steps,
    ]
    return peer_row(*pages.run(command, peer_environment(options, work)))


def spread(values):
    """Median, extremes and count."""
    return {
        "median": statistics.median(values), "low": min(values), "high": max(values),
        "n": len(values),
    }


def measure(options, shape, work, dtype):
    rounds = []
    for index in range(options.rounds):
        if options.processor_time:
            other = peer_by_processor(options, work, shape, dtype)
            own = own_by_processor(options, work, shape, dtype)
        else:
            own_options = ["--shape", shape, "--dtype", dtype, "--steps", options.steps]
            own = pages.hearken(options.hearken, work, *own_options)[0]
            other = peer(options, work, shape, dtype)
        rounds.append((own, other))
        ratio = own["tokens_per_s"] / other["tokens_per_s"]
        print(
            f"{work} {shape} {dtype} {index + 1}/{options.rounds}: "
            f"{own['tokens_per_s']:.0f} against {other['tokens_per_s']:.0f} tokens/s, "
            f"{ratio:.2f} times; {own['peak_rss_mb']} against {other['peak_rss_mb']} MiB",
            flush=True,
        )
    own, other = zip(*rounds)
    ratios = [a["tokens_per_s"] / b["tokens_per_s"] for a, b in rounds]
    memory = [a["peak_rss_mb"] / b["peak_rss_mb"] for a, b in rounds]
    return {
        "work": work, "shape": shape, "dtype": dtype, "date": pages.today(),
        "commit": pages.commit(), "load_average": os.getloadavg()[0],
        "processor_time": options.processor_time,
        "speed_ratio": spread(ratios), "memory_ratio": spread(memory),
        "hearken": {
            name: spread([row[name] for row in own])
            for name in ("tokens_per_s", "gflops", "peak_share", "peak_rss_mb") if name in own[0]
        },
        "trl": {
            name: spread([row[name] for row in other]) for name in ("tokens_per_s", "peak_rss_mb")
        },
        "versions": other[0]["versions"], "steps_per_round": options.steps,
        "hearken_steps_s": [row["steps_s"] for row in own],
        "trl_steps_s": [row["steps_s"] for row in other],
    }


def single_streams(options, shapes):
    """One sequence at a time: how near decoding is to the speed of memory."""
    rows = []
    for shape in shapes:
        chosen = ["--shape", shape, "--dtype", "bf16", "--steps", options.steps]
        rows += pages.hearken(options.hearken, "decode", *chosen)
    return rows


def key(result):
    return result["shape"], result["work"], result["dtype"]


def ratio_text(found):
    return f"**{found['median']:.2f}** ({found['low']:.2f} to {found['high']:.2f})"


def against(value, target):
    return f"{target:g} {'reached' if target <= value else 'missed'}"


def target_of(kernels, result):
    if kernels:
        return FAMILY_TARGETS[kernels][result["work"]]
    return TARGETS[result["work"]] if result["dtype"] == "bf16" else None


def share_text(result):
    # Against the seconds of a processor there is no peak.
    if result.get("processor_time"):
        return ""
    return f"{100 * result['hearken']['peak_share']['median']:.0f} %"


def comparison(kernels, results):
    headings = [
        "work, shape, dtype", "Hearken tokens/s", "TRL tokens/s", "times as fast", "to reach",
        "of peak", "Hearken MiB", "TRL MiB", "of TRL's memory", "n",
    ]
    rows = []
    for result in results:
        speed, memory = result["speed_ratio"], result["memory_ratio"]
        target = target_of(kernels, result)
        own, other = result["hearken"], result["trl"]
        reached = against(speed["median"], target) if target else ""
        rows.append(
            [
                f"{result['work']}, {result['shape']}, {result['dtype']}",
                f"{own['tokens_per_s']['median']:,.0f}", f"{other['tokens_per_s']['median']:,.0f}",
                ratio_text(speed), reached, share_text(result),
                f"{own['peak_rss_mb']['median']:,.0f}", f"{other['peak_rss_mb']['median']:,.0f}",
                f"{memory['median']:.2f}", str(speed["n"]),
            ]
        )
    return pages.table(headings, rows)


def page(report, kernels, results_file):
    results = report["results"]
    # With --add, pieces may be of different days.
    dates = sorted({result["date"] for result in results})
    commits = sorted({result["commit"] for result in results})
    versions = {
        f"{name} {version}" for result in results for name, version in result["versions"].items()
    }
    text = [
        f"{pages.machine_sentence(report['machine'])}. {', '.join(dates)}, commit "
        f"{', '.join(commits)}; {', '.join(sorted(versions))}. \"Times as fast\": the median of the "
        f"rounds' ratios, with the lowest and the highest; n rounds. \"To reach\" is over TRL in "
        f"{'the same precision' if kernels else 'bf16'}; "
        f"memory is meant to stay below {MEMORY_TARGET} of TRL's. "
        f"[All numbers](results/{results_file}).\n",
        comparison(kernels, results),
    ]
    if any(result.get("processor_time") for result in results):
        text.append(
            "Rows without a share of the peak are tokens per second of a processor, on one thread on both "
            "sides: other programs ran on the machine.\n"
        )
    if report["peak"]:
        peaks = [
            f"{row['gflops']:.0f} GFLOP/s in {row['dtype']}" for row in report["peak"]
        ] + [f"{report['peak'][0]['bandwidth_gb_per_s']:.1f} GB/s read from memory"]
        text.append(f"The machine at its best: {', '.join(peaks)}.\n")
    if report["single_stream"]:
        rows = [
            [
                row["shape"], f"{row['tokens_per_s']:.0f}", f"{100 * row['bandwidth_share']:.0f} %",
                against(row["bandwidth_share"], BANDWIDTH_TARGET),
            ]
            for row in report["single_stream"]
        ]
        headings = ["one sequence, bf16", "tokens/s", "of memory bandwidth", "to reach"]
        text.append(pages.table(headings, rows))
    return "\n".join(text)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, help="the interpreter that has TRL")
    parser.add_argument("--ppo-packages", help="the folder with the TRL that has PPO")
    parser.add_argument("--hearken", default=pages.HEARKEN)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--shapes", nargs="+", default=["small30", "smol135", "gpt2"])
    parser.add_argument("--dtypes", nargs="+", choices=["f32", "bf16"], default=["bf16", "f32"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="steps that count, of each run")
    parser.add_argument("--processor-time", action="store_true", help="count seconds of a processor")
    parser.add_argument("--kernels", choices=list(PEER_FAMILIES), help="force a family on both")
    parser.add_argument("--add", action="store_true", help="keep other results of earlier runs")
    options = parser.parse_args()
    if "ppo" in options.works and "small30" in options.shapes and not options.ppo_packages:
        parser.error("ppo needs --ppo-packages; or leave it out with --works")
    return options


def main():
    options = parse()
    report = {"results": [], "single_stream": []}
    suffix, section = "", "side by side"
    if options.kernels:
        os.environ["HEARKEN_KERNELS"] = options.kernels
        suffix, section = f"-{options.kernels}", f"side by side, {options.kernels}"
    results = pages.RESULTS / f"performance{suffix}.json"
    if options.add and results.exists():
        report = json.loads(results.read_text())
    report["machine"] = pages.machine()
    report["peak"] = [] if options.processor_time else pages.hearken(options.hearken, "peak")
    found = {key(result): result for result in report["results"]}
    streams = {row["shape"]: row for row in report["single_stream"]}
    wanted = [cell for cell in CELLS if cell[0] in options.shapes and cell[1] in options.works]
    if "generate" in options.works and not options.processor_time:
        rows = single_streams(options, options.shapes)
        streams.update({row["shape"]: row for row in rows})
    for dtype, (shape, work) in itertools.product(options.dtypes, wanted):
        result = measure(options, shape, work, dtype)
        found[key(result)] = result
        order = [(shape, work, dtype) for dtype in ("bf16", "f32") for shape, work in CELLS]
        report["results"] = sorted(found.values(), key=lambda one: order.index(key(one)))
        report["single_stream"] = list(streams.values())
        # After each: a run that is broken off leaves what it has measured.
        pages.write_json(results, report)
        pages.replace_section(section, page(report, options.kernels, results.name))


if __name__ == "__main__":
    main()
