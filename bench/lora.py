"""What an adapter and a base in eight bits save: memory and speed of dpo with `[lora]` beside full training, on a
real model, and how far log-probabilities of eight bits are from those of the model's own weights.

    cargo build --release
    python3 bench/lora.py --model DIR --pairs PAIRS.jsonl --named "what the model is"

`--pairs` is a file of preferences. Writes docs/results/lora.json and the section of docs/performance.md.
"""

import argparse
import json
import pathlib
import tempfile

import pages

WAYS = {
    "full": [],
    "lora, r 16, all linear maps": ["lora.r=16"],
    "lora, r 16, queries and values": ["lora.r=16", "lora.targets=['q_proj','v_proj']"],
    "lora, r 16, all linear maps, int8": ["lora.r=16", "model.base=int8"],
    "lora, r 16, all linear maps, int8_groups": ["lora.r=16", "model.base=int8_groups"],
}


def logprobs(options, folder, base):
    """Log-probabilities of the pairs' texts, and the most memory that reading them took."""
    pairs = [json.loads(line) for line in options.pairs.read_text().splitlines()][: options.limit]
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"messages": pair["chosen"]}) + "\n" for pair in pairs))
    output = folder / "logprobs.jsonl"
    command = [options.hearken, "logprobs", "--model", options.model, "--base", base]
    _, peak = pages.run([*command, "--input", texts, "--output", output, "--microbatch-tokens", options.microbatch])
    lines = [json.loads(line)["logprobs"] for line in output.read_text().splitlines()]
    return [value for line in lines for value in line if value is not None], peak


def errors(options):
    """How far eight bits are from the model's own weights."""
    with tempfile.TemporaryDirectory(dir=options.pairs.parent) as folder:
        read = {base: logprobs(options, pathlib.Path(folder), base) for base in ["float", "int8", "int8-groups"]}
    expected, whole = read["float"]
    rows = []
    for base, (found, peak) in read.items():
        differences = [abs(a - b) for a, b in zip(found, expected, strict=True)]
        rows.append({
            "base": base, "tokens": len(found), "peak_mb": peak, "nats_per_token": -sum(found) / len(found),
            "mean_difference": sum(differences) / len(found), "largest_difference": max(differences),
        })
        print(f"{base}: {rows[-1]}, {whole} MiB whole", flush=True)
    return rows


def measure(options, folder, dtype, settings):
    run = folder / "run"
    everything = [
        f"run.dir={run}", f"model.path={options.model}", f"model.dtype={dtype}",
        f"data.train={options.pairs}", f"data.limit={options.limit}", f"data.max_tokens={options.tokens}",
        "data.truncation=drop", f"train.steps={options.steps}", f"train.batch_size={options.batch}",
        f"train.microbatch_tokens={options.microbatch}", "train.save_minutes=0", *settings,
    ]
    config = folder / "dpo.toml"
    config.write_text("")
    command = [options.hearken, "dpo", config, "--fresh"]
    _, peak, seconds = pages.run_timed([*command, *(f"--set={one}" for one in everything)])
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if "loss" in record]
    saved = sum(path.stat().st_size for path in (run / "final").glob("*.safetensors"))
    return {
        "peak_mb": peak, "saved_mb": saved / 1e6,
        "processor_seconds": seconds, "tokens": sum(record["tokens"] for record in steps),
        "losses": [record["loss"] for record in steps],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hearken", default=pages.HEARKEN)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--pairs", required=True, type=pathlib.Path)
    parser.add_argument("--named", required=True, help="what the model is, for the page")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--microbatch", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--limit", type=int, default=12)
    options = parser.parse_args()
    rows = []
    for dtype in ["f32", "bf16"]:
        for way, settings in WAYS.items():
            with tempfile.TemporaryDirectory(dir=options.pairs.parent) as folder:
                row = {"dtype": dtype, "way": way}
                row |= measure(options, pathlib.Path(folder), dtype, settings)
            full = next((one for one in rows if one["dtype"] == dtype), row)
            row["of_full"] = row["peak_mb"] / full["peak_mb"]
            print(f"{dtype}, {way}: {row['peak_mb']} MiB, {row['processor_seconds']:.0f} s of processors", flush=True)
            rows.append(row)
    report = {
        "machine": pages.machine(), "date": pages.today(), "commit": pages.commit(),
        "model": options.named, "pairs": options.pairs.name, "steps": options.steps,
        "batch_size": options.batch, "microbatch_tokens": options.microbatch, "rows": rows,
        "eight_bits": errors(options),
    }
    pages.write_json(pages.RESULTS / "lora.json", report)
    shown = [
        [f"{row['way']}, {row['dtype']}", f"{row['peak_mb']:,.0f}", f"{100 * row['of_full']:.0f} %",
         f"{row['tokens'] / row['processor_seconds']:,.0f}", f"{row['saved_mb']:,.1f}"]
        for row in rows
    ]
    text = (
        f"{pages.machine_sentence(report['machine'])}. {report['date']}, commit {report['commit']}; {options.named}; "
        f"{options.steps} steps of {options.batch} pairs of at most {options.tokens} tokens, microbatches of {options.microbatch}; seconds of the whole run, its reference included. "
        "[All numbers](results/lora.json).\n\n"
        + pages.table(["dpo", "most held, MiB", "of full", "tokens per second of a processor", "saved, MB"], shown)
    )
    shown = [
        [row["base"], f"{row['peak_mb']:,.0f}", f"{row['nats_per_token']:.4f}", f"{row['mean_difference']:.4f}",
         f"{row['largest_difference']:.3f}"]
        for row in report["eight_bits"]
    ]
    head = ["logprobs, `--base`", "most held, MiB", "nats per token", "mean difference of a token", "largest"]
    text += f"\n\nOf {report['eight_bits'][0]['tokens']:,} tokens of the preferred answers and their prompts:\n\n"
    text += pages.table(head, shown)
    pages.replace_section("adapters", text)


if __name__ == "__main__":
    main()
