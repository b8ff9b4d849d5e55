"""What `run.memory_limit_gb` holds: the plan of every trainer beside the memory that it came to take.

    cargo build --release
    python3 bench/memory_limits.py

Makes models with random weights and records of the words of this project's documents, in a folder that is
gone afterwards. Writes docs/results/memory_limits.json and the section of docs/performance.md.
"""

import argparse
import json
import pathlib
import random
import re
import subprocess
import tempfile

import pages

SHAPE = "llama,layers=8,width=512,heads=8,kv_heads=4,inner=1408,positions=1024"
VOCABULARY = 8192
# Limits over the least that a trainer asks for with the longest of its records.
OVER_LEAST = [1.05, 1.25, 2.0]
STEPS = 3
SCORE = "[[score]]\nkind = 'heuristic'\nname = 'length_diversity'\n"
ROLLOUT = "[rollout]\nmax_new_tokens = 64\n"
# name: the trainer, its records, and what its configuration needs beside paths.
TRAINERS = {
    "sft": ("sft", "texts", "[train]\nbatch_size = 16\n"),
    "reward": ("reward", "pairs", "[train]\nbatch_size = 16\n"),
    "dpo": ("dpo", "pairs", "[train]\nbatch_size = 16\n"),
    "grpo": (
        "grpo", "prompts",
        f"[grpo]\nprompts = 4\n{ROLLOUT}completions = 8\n[kl]\nbeta = 0.04\n{SCORE}",
    ),
    "ppo": (
        "ppo", "prompts",
        f"[train]\nbatch_size = 32\n{ROLLOUT}[ppo]\nepochs = 1\ncritic = 'CRITIC'\n{SCORE}",
    ),
}


def words():
    """The words of the project's documents."""
    text = "\n".join(path.read_text() for path in sorted(pages.ROOT.glob("docs/*.md")))
    return re.findall(r"[A-Za-z]+", text)


def records(folder):
    """Texts, pairs and prompts of different lengths."""
    source, chance = words(), random.Random(1)

    def some(low, high):
        return " ".join(chance.choices(source, k=chance.randint(low, high)))

    kinds = {
        "texts": lambda: {"prompt": some(20, 60), "completion": some(20, 120)},
        "pairs": lambda: {"prompt": some(20, 60), "chosen": some(20, 80), "rejected": some(20, 80)},
        "prompts": lambda: {"prompt": some(20, 60)},
    }
    for name, make in kinds.items():
        lines = [json.dumps(make()) for _ in range(160)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "words.txt").write_text(" ".join(source))


def models(program, folder):
    """A policy, and a model with a score head of its shape."""
    pages.run(
        [program, "init", "--shape", SHAPE, "--train-tokenizer", folder / "words.txt", "--vocab-size",
         VOCABULARY, "--output", folder / "policy"]
    )
    pages.run(command(program, folder, "reward", "critic", ["train.steps=1"]))


def command(program, folder, name, run, settings):
    trainer, data, text = TRAINERS[name]
    config = folder / f"{name}.toml"
    config.write_text(text.replace("CRITIC", str(folder / "critic" / "final")))
    settings = [
        f"run.dir={folder / run}", f"model.path={folder / 'policy'}",
        f"data.train={folder / data}.jsonl", *settings,
    ]
    return [program, trainer, config, "--fresh", *(f"--set={one}" for one in settings)]


def megabytes(text):
    """Of the plan's sentences, as in 1234.5 MB or 12.3 GB."""
    number, unit = text.split()
    return float(number) * {"MB": 1, "GB": 1000}[unit]


def least(program, folder, name, dtype):
    """The smallest limit that a trainer takes, in MB, from what it says of smaller ones."""
    limit = 1.0
    while True:
        settings = [f"model.dtype={dtype}", "train.steps=1", f"run.memory_limit_gb={limit / 1000:.4f}"]
        tried = subprocess.run(
            [str(word) for word in command(program, folder, name, "try", settings)],
            capture_output=True, text=True, check=False,
        )
        if tried.returncode == 0:
            return limit
        said = re.search(r"expected at least ([\d.]+ [MG]B)", tried.stderr)
        if not said and "leaves room for microbatches" not in tried.stderr:
            raise SystemExit(tried.stderr)
        # What is said is rounded, perhaps down.
        limit = 1.0005 * megabytes(said.group(1)) if said else 1.02 * limit


def measure(program, folder, name, dtype, limit):
    settings = [f"model.dtype={dtype}", f"train.steps={STEPS}", f"run.memory_limit_gb={limit / 1000:.4f}"]
    _, peak = pages.run(command(program, folder, name, "run", settings))
    return peak * (1 << 20) / 1e6


def measured(program, dtypes):
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        records(folder)
        models(program, folder)
        for dtype in dtypes:
            for name in TRAINERS:
                smallest = least(program, folder, name, dtype)
                for over in OVER_LEAST:
                    limit = smallest * over
                    peak = measure(program, folder, name, dtype, limit)
                    row = {"trainer": name, "dtype": dtype, "limit_mb": limit, "peak_mb": peak}
                    print(f"{name} {dtype}: limit {limit:.0f} MB, peak {peak:.0f} MB", flush=True)
                    rows.append(row)
    return rows


def table(rows):
    shown = [
        [f"{row['trainer']}, {row['dtype']}", f"{row['limit_mb']:,.0f}", f"{row['peak_mb']:,.0f}",
         f"{100 * row['peak_mb'] / row['limit_mb']:.0f} %"]
        for row in rows
    ]
    return pages.table(["trainer", "limit, MB", "most held, MB", "of the limit"], shown)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hearken", default=pages.HEARKEN)
    parser.add_argument("--dtypes", nargs="+", default=["f32", "bf16"])
    options = parser.parse_args()
    rows = measured(options.hearken, options.dtypes)
    report = {
        "machine": pages.machine(), "date": pages.today(), "commit": pages.commit(), "shape": SHAPE,
        "vocabulary": VOCABULARY, "steps": STEPS, "rows": rows,
    }
    pages.write_json(pages.RESULTS / "memory_limits.json", report)
    text = (
        f"{pages.machine_sentence(report['machine'])}. {report['date']}, commit {report['commit']}; "
        f"{STEPS} steps each of a model of small30's shape. [All numbers](results/memory_limits.json)."
        "\n\n" + table(rows)
    )
    pages.replace_section("memory limits", text)


if __name__ == "__main__":
    main()
