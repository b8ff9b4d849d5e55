"""Labels by arithmetic of solutions that models wrote to GSM8K, beside whether their answers are right.

    cargo build --release
    python3 tests/gsm8k_steps.py --solutions example_model_solutions.jsonl

The file is that of GSM8K's authors: a line has a `question` and, by the name of a model, its `solution` and whether it
`is_correct`. Writes docs/results/gsm8k-steps.json.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import pages  # noqa: E402


def labels(hearken, solutions):
    """The labels of each solution's lines."""
    with tempfile.TemporaryDirectory() as folder:
        read, written = pathlib.Path(folder) / "in.jsonl", pathlib.Path(folder) / "out.jsonl"
        lines = [{"prompt": one["question"], "completion": one["solution"]} for one in solutions]
        read.write_text("".join(json.dumps(line) + "\n" for line in lines))
        command = [hearken, "steps", "label", "--by", "arithmetic", "--input", read, "--output", written]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return [json.loads(line)["labels"] for line in written.read_text().splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hearken", default=pages.HEARKEN)
    parser.add_argument("--solutions", required=True, type=pathlib.Path)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.solutions.read_text().splitlines()]
    report = {"machine": pages.machine(), "date": pages.today(), "commit": pages.commit(), "problems": len(rows), "models": []}
    for name in [key for key, value in rows[0].items() if isinstance(value, dict)]:
        solutions = [{"question": row["question"], **row[name]} for row in rows if row[name]["solution"].strip()]
        found = labels(options.hearken, solutions)
        flat = [label for one in found for label in one]
        # A label is the share of good; null says nothing.
        bad = [any(label is not None and label < 0.5 for label in one) for one in found]
        right = [bool(one["is_correct"]) for one in solutions]
        row = {
            "model": name, "solutions": len(solutions), "steps": len(flat),
            "good": sum(label == 1.0 for label in flat), "bad": sum(label == 0.0 for label in flat),
            "without": sum(label is None for label in flat),
            "right_answers": sum(right), "right_answers_with_a_bad_step": sum(b and r for b, r in zip(bad, right)),
            "wrong_answers": len(right) - sum(right), "wrong_answers_with_a_bad_step": sum(b and not r for b, r in zip(bad, right)),
        }
        report["models"].append(row)
        print(row)
        for one, label in zip(solutions, found):
            where = [i for i, value in enumerate(label) if value == 0.0]
            if where and len(report.setdefault("examples", [])) < 6:
                lines = [line for line in one["solution"].split("\n") if line.strip()]
                if len(lines) == len(label):
                    report["examples"].append({"model": name, "bad_step": lines[where[0]], "answer_is_right": one["is_correct"]})
    pages.write_json(pages.RESULTS / "gsm8k-steps.json", report)


if __name__ == "__main__":
    main()
