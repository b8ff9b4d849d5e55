"""What distillation brings in the quickstart's world: a student of one layer, fine-tuned on the demonstrations, follows the
policy that PPO made; by every divergence, on its own completions and on the data's, the teacher in the process and behind a server.

    cargo build --release
    target/release/hearken rlhf configs/quickstart.toml
    python3 bench/distill.py

Writes docs/results/distill.json and the section of docs/distill.md.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import pages

PAGE = pages.ROOT / "docs" / "distill.md"
TOP_K = 16
# Named as the page shows them.
WAYS = {
    "its own completions, reverse KL": ["distill.beta=1"],
    "its own completions, β = 0.5": ["distill.beta=0.5"],
    "its own completions, forward KL": ["distill.beta=0"],
    "half its own, half the data's, reverse KL": ["distill.beta=1", "distill.lambda=0.5"],
    "the data's completions, forward KL": ["distill.beta=0", "distill.lambda=0"],
}
SERVED = f"its own completions, reverse KL, a server's {TOP_K} likeliest"


def train(options, command, run, settings):
    config = run.parent / f"{run.name}.toml"
    config.write_text("")
    _, _, seconds = pages.run_timed(
        [options.hearken, command, config, "--fresh", *(f"--set={one}" for one in [f"run.dir={run}", *settings])]
    )
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()], seconds


def distill(options, folder, name, student, settings):
    data = options.quickstart / "data" / "demonstrations.jsonl"
    gold = 'score=[{kind="heuristic", name="quickstart_gold"}]'
    records, seconds = train(options, "distill", folder / name, [
        f"model.path={student}", f"data.train={data}", "data.eval_fraction=0.05", f"train.steps={options.steps}",
        "optimizer.lr=2e-3", "rollout.max_new_tokens=64", gold, *settings,
    ])
    evaluations = [record for record in records if "eval_kl" in record]
    steps = [record for record in records if "loss" in record]
    keys = ["eval_kl", "eval_scores", "eval_length"]
    row = {"processor_seconds": seconds, "last_loss": steps[-1]["loss"], "last_reverse_kl": steps[-1]["reverse_kl"]}
    row |= {"unnamed": steps[-1].get("teacher/unnamed")}
    return {key: [evaluations[0][key], evaluations[-1][key]] for key in keys} | row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hearken", default=pages.HEARKEN)
    parser.add_argument("--quickstart", type=pathlib.Path, default=pathlib.Path("runs/quickstart"))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--shape", default="llama,layers=1,width=48,heads=4,positions=128")
    options = parser.parse_args()
    teacher = options.quickstart / "ppo" / "final"
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        start = folder / "start"
        pages.run([
            options.hearken, "init", "--shape", options.shape, "--tokenizer", options.quickstart / "base",
            "--output", start,
        ])
        demonstrations = options.quickstart / "data" / "demonstrations.jsonl"
        train(options, "sft", folder / "sft", [
            f"model.path={start}", f"data.train={demonstrations}", "train.epochs=2", "optimizer.lr=2e-3",
        ])
        student = folder / "sft" / "final"
        for name, settings in WAYS.items():
            settings = [f"teacher.path={teacher}", *settings]
            rows[name] = distill(options, folder, f"way-{len(rows)}", student, settings)
            print(name, json.dumps(rows[name]), flush=True)
        command = [options.hearken, "serve", "--model", teacher, "--bind", "127.0.0.1:0", "--cache-mib", "64"]
        with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True) as server:
            url = server.stdout.readline().strip()
            settings = [f"teacher.server={url}", f"teacher.top_k={TOP_K}", "distill.beta=1"]
            rows[SERVED] = distill(options, folder, "served", student, settings)
            server.terminate()
        print(SERVED, json.dumps(rows[SERVED]), flush=True)
    report = {
        "machine": pages.machine(), "date": pages.today(), "student": options.shape, "steps": options.steps,
        "ways": rows,
    }
    pages.write_json(pages.RESULTS / "distill.json", report)

    def shown(estimate):
        return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"

    first = next(iter(rows.values()))
    table = [["before", shown(first["eval_kl"][0]), shown(first["eval_scores"][0])]]
    table += [[name, shown(row["eval_kl"][1]), shown(row["eval_scores"][1])] for name, row in rows.items()]
    text = (
        f"The student is a Llama of one layer, 48 wide, fine-tuned on the quickstart's demonstrations; the teacher is the quickstart's policy after PPO, "
        f"of three layers. {options.steps} steps of 32 completions, learning rate 2e-3; means over {first['eval_kl'][0]['n']} held-out prompts with intervals of 95 %. The gold score is the hidden preference of "
        f"the quickstart, which nothing here is trained for but through the teacher. {pages.machine_sentence(report['machine'])}; {report['date']}. [All numbers](results/distill.json); `python3 bench/distill.py` makes them again.\n\n"
        + pages.table(["completions, divergence", "KL to the teacher, nats per completion", "gold score"], table)
    )
    pages.replace_section("quickstart", text, PAGE)


if __name__ == "__main__":
    main()
