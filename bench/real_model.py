"""A real model through the trainers with `[lora]` and without: what is learned, how fast, and in how much memory; and
whether weights trained in bfloat16 alone (`model.masters = "bf16"`) learn as those with masters in f32 do.

    cargo build --release
    python3 bench/real_model.py --model DIR --questions GSM8K.jsonl --pairs PAIRS.jsonl --named "what the model is"

`--questions` has the columns `question` and `answer`, `--pairs` is a file of preferences. Addition for grpo is made here.
Writes docs/results/real-model.json and the section of docs/performance.md.
"""

import argparse
import json
import pathlib
import random
import tempfile

import pages

LORA = ["lora.r=16", "lora.targets=all-linear"]
RUNS = [
    ("sft", "full", ["optimizer.lr=2e-5"]),
    ("sft", "full, masters bf16", ["optimizer.lr=2e-5", "model.masters=bf16"]),
    ("sft", "lora", ["optimizer.lr=2e-4", *LORA]),
    ("dpo", "full", ["optimizer.lr=1e-6"]),
    ("dpo", "lora", ["optimizer.lr=5e-5", *LORA]),
    ("grpo", "full", ["optimizer.lr=2e-6"]),
    ("grpo", "lora", ["optimizer.lr=1e-4", *LORA]),
]
FIGURE = {"sft": "loss", "dpo": "loss", "grpo": "reward"}


def additions(path, count):
    draw = random.Random(0)
    lines = []
    for _ in range(count):
        one, other = draw.randint(1, 20), draw.randint(1, 20)
        question = f"What is {one} + {other}? Answer with the number alone."
        lines.append({"prompt": [{"role": "user", "content": question}], "answer": str(one + other)})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def demonstrations(questions, path):
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    turn = lambda role, content: {"role": role, "content": content}
    lines = [{"messages": [turn("user", row["question"]), turn("assistant", row["answer"])]} for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def settings(options, folder, trainer):
    """The data of a trainer, and how it goes over them."""
    if trainer == "sft":
        path = folder / "sft.jsonl"
        demonstrations(options.questions, path)
        return [f"data.train={path}", "data.max_tokens=256", "data.truncation=drop", "train.batch_size=8",
                f"train.steps={options.steps}"]
    if trainer == "dpo":
        steps = max(1, options.steps // 2)
        return [f"data.train={options.pairs}", "data.max_tokens=256", "data.truncation=drop", "train.batch_size=8",
                f"train.steps={steps}", f"data.limit={10 * steps}"]
    path = folder / "additions.jsonl"
    additions(path, 400)
    return [f"data.train={path}", "score=[{kind='verifier',name='numeric'}]", "grpo.prompts=8", "rollout.completions=8",
            "rollout.max_new_tokens=8", f"train.steps={options.steps}"]


def measure(options, folder, trainer, more):
    run = folder / "run"
    everything = [
        f"run.dir={run}", f"model.path={options.model}", "model.dtype=bf16", "optimizer.schedule=constant",
        "train.microbatch_tokens=1024", "train.save_minutes=0", *settings(options, folder, trainer), *more,
    ]
    config = folder / "run.toml"
    config.write_text("")
    command = [options.hearken, trainer, config, "--fresh"]
    _, peak, seconds = pages.run_timed([*command, *(f"--set={one}" for one in everything)])
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curve = [record[FIGURE[trainer]] for record in records if FIGURE[trainer] in record and "loss" in record]
    return {
        "steps": len(curve), "peak_mb": peak, "processor_seconds": seconds,
        "tokens": sum(record.get("tokens", 0) for record in records if "loss" in record), "curve": curve,
    }


def mean(values):
    return sum(values) / len(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hearken", default=pages.HEARKEN)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--questions", required=True, type=pathlib.Path)
    parser.add_argument("--pairs", required=True, type=pathlib.Path)
    parser.add_argument("--named", required=True, help="what the model is, for the page")
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    rows = []
    for trainer, way, more in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            row = {"trainer": trainer, "way": way, **measure(options, pathlib.Path(folder), trainer, more)}
        ends = max(1, len(row["curve"]) // 5)
        row |= {"figure": FIGURE[trainer], "first": mean(row["curve"][:ends]), "last": mean(row["curve"][-ends:])}
        rows.append(row)
        print(f"{trainer}, {way}: {row['first']:.3f} to {row['last']:.3f}, {row['peak_mb']} MiB, "
              f"{row['processor_seconds']:.0f} s of processors", flush=True)
    sft = {row["way"]: row["curve"] for row in rows if row["trainer"] == "sft"}
    apart = [abs(a - b) for a, b in zip(sft["full"], sft["full, masters bf16"], strict=True)]
    report = {
        "machine": pages.machine(), "date": pages.today(), "commit": pages.commit(), "model": options.named,
        "seeds": [0], "rows": rows,
        "masters": {"mean_loss_apart": mean(apart), "largest_loss_apart": max(apart), "n": len(apart)},
    }
    pages.write_json(pages.RESULTS / "real-model.json", report)
    shown = [
        [f"{row['trainer']}, {row['way']}", f"{row['steps']}", f"{row['figure']} {row['first']:.3f} → {row['last']:.3f}",
         f"{row['peak_mb']:,.0f}", f"{row['tokens'] / row['processor_seconds']:,.0f}"]
        for row in rows
    ]
    masters = report["masters"]
    text = (
        f"{pages.machine_sentence(report['machine'])}. {report['date']}, commit {report['commit']}; {options.named}, "
        "`dtype = \"bf16\"`, one seed; first and last are means of a fifth of the steps each. [All numbers](results/real-model.json).\n\n"
        + pages.table(["run", "steps", "what is learned", "most held, MiB", "tokens per second of a processor"], shown)
        + f"\n\nWith and without f32 masters the losses of sft's {masters['n']} steps differ by {masters['mean_loss_apart']:.4f} "
        f"in the mean and {masters['largest_loss_apart']:.4f} at most."
    )
    pages.replace_section("real model", text)


if __name__ == "__main__":
    main()
