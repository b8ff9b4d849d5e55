"""A constitution from end to end, on a principle that a program can check: no digits in the answer. A small model from nothing
learns to add, mostly with digits, and on other questions to criticize, rewrite and compare answers; then it revises and compares
its own sums, and learns from that beside what people say about which sums are right.

    cargo build --release
    python3 bench/constitution.py [--seeds 1 2 3]

Writes docs/results/constitution.json and the section of docs/constitution.md. A seed takes some six minutes on one thread.
"""

import argparse
import itertools
import json
import pathlib
import random
import re
import statistics
import tempfile

import pages

PAGE = pages.ROOT / "docs" / "constitution.md"
OUT = pages.RESULTS / "constitution.json"
WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
ADDENDS = range(7)
NAMES = (
    "Anna Ben Carl Dora Emil Fay Gus Hal Ida Jon Kim Lea Max Nora Otto Paul Rosa Sam Tim Uma Vera Will Yara Zoe"
).split()
THINGS = (
    "apples pears cups hats shoes books coins keys boats birds cats dogs stones bells rings lamps pens eggs figs nuts maps "
    "ropes bags forks"
).split()
PLACES = "box bag house garden room boat shop school".split()
CRITIQUE = "Which digits are in your answer?"
REVISION = "Say it without digits."
# What `hearken constitution` says behind every request for a revision.
ALONE = " Write nothing but the new answer."
COMPARE = "Which has no digits?"
QUESTION = "{principle} {prompt} A: {a} B: {b} A or B?"
# Of the sums that people show the model: how many have digits, and how many are wrong.
DIGITS, WRONG = 0.8, 0.2
# Two-sided 97.5 % points of Student's t, by the number of seeds.
T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
# What is measured of held-out prompts; first answers and their revisions are those of the prompts that are trained on.
STAGES = [
    "before", "first answers", "their revisions", "fine-tuned on revisions", "RL by people's comparisons",
    "RL by people's and its own comparisons", "fine-tuned on revisions, then RL by both",
]


def say(role, text):
    return {"role": role, "content": text}


def asked(sum_):
    name, a, b = sum_
    return f"{name} asks: What is {WORDS[a]} plus {WORDS[b]}?"


def right(sum_):
    return sum_[1] + sum_[2]


def written(form, number, in_digits):
    return form.format(number if in_digits else WORDS[number])


def beside(rng, number):
    """A wrong sum next to a right one."""
    return number + (rng.choice([-1, 1]) if 0 < number < len(WORDS) - 1 else 1 if number == 0 else -1)


def other_question(rng):
    """A question that is no sum, and of which nothing says the number; with a form of its answer."""
    name, things, place = rng.choice(NAMES), rng.choice(THINGS), rng.choice(PLACES)
    question, form = rng.choice([
        (f"How many {things} does {name} have?", f"{name} has {{}} {things}."),
        (f"How many {things} are in the {place}?", f"There are {{}} {things}."),
        (f"What is the number of the {place}?", f"The {place} has {{}}."),
        (f"What is the number of {name}?", f"{name} has {{}}."),
    ])
    return question, rng.choice([form, "It is {}."])


def demonstrations(rng, rounds):
    """What the model learns first: in each round three sums, and of other questions a critique, two revisions, a comparison."""
    rows = []
    for _ in range(rounds):
        for _ in range(3):
            sum_ = rng.choice(NAMES), rng.choice(ADDENDS), rng.choice(ADDENDS)
            total = beside(rng, right(sum_)) if rng.random() < WRONG else right(sum_)
            rows.append(([say("user", asked(sum_))], written("It is {}.", total, rng.random() < DIGITS)))
        for with_critique in (True, False):
            question, form = other_question(rng)
            number, in_digits = rng.randrange(len(WORDS)), rng.random() < 0.6
            found = f"Digits: {number}." if in_digits else "No digits."
            talk = [say("user", question), say("assistant", written(form, number, in_digits)), say("user", CRITIQUE)]
            if with_critique:
                rows.append((talk, found))
            talk = [*talk, say("assistant", found), say("user", REVISION + ALONE)]
            rows.append((talk, written(form, number, False)))
        question, form = other_question(rng)
        numbers = [rng.randrange(len(WORDS)) for _ in range(2)]
        if rng.random() < 0.4:
            numbers[1] = numbers[0]
        digits = [rng.random() < 0.5 for _ in range(2)]
        a, b = (written(form, *one) for one in zip(numbers, digits))
        choice = "AB"[digits[0]] if digits[0] != digits[1] else rng.choice("AB")
        rows.append(([say("user", QUESTION.format(principle=COMPARE, prompt=question, a=a, b=b))], choice))
    return [{"prompt": prompt, "completion": [say("assistant", said)]} for prompt, said in rows]


def people(rng, sums, count):
    """What people prefer: the right sum, however it is written."""
    rows = []
    for sum_ in itertools.islice(itertools.cycle(sums), count):
        wrong = rng.choice([beside(rng, right(sum_)), rng.randrange(len(WORDS))])
        wrong = beside(rng, wrong) if wrong == right(sum_) else wrong
        texts = [written("It is {}.", total, rng.random() < 0.5) for total in (right(sum_), wrong)]
        chosen, rejected = ([say("assistant", text)] for text in texts)
        rows.append({"prompt": [say("user", asked(sum_))], "chosen": chosen, "rejected": rejected})
    return rows


def has_digit(text):
    return re.search(r"\d", text) is not None


def number_of(text):
    """The number that an answer names."""
    found = re.fullmatch(r"\s*It is (\w+)\.\s*", text)
    if found is None:
        return None
    word = found[1]
    return WORDS.index(word) if word in WORDS else int(word) if word.isdecimal() else None


def shares(sums, texts, before):
    """In per cent; a right answer against a wrong one wins, of two equal ones each wins half."""
    mine, theirs = ([number_of(text) == right(sum_) for sum_, text in zip(sums, all_)] for all_ in (texts, before))
    wins = [0.5 + 0.5 * (one - other) for one, other in zip(mine, theirs)]
    return {
        "n": len(texts), "with digits": 100 * statistics.mean(map(has_digit, texts)),
        "right": 100 * statistics.mean(mine), "wins": 100 * statistics.mean(wins),
    }


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class World:
    """One seed, in a folder of its own."""

    def __init__(self, options, folder, seed):
        self.options, self.folder, self.seed = options, folder, seed

    def command(self, command, name, **settings):
        """Runs a command with the defaults and these settings, into a folder of its name."""
        config = self.folder / f"{name}.toml"
        config.write_text("")
        settings = {"run__dir": self.folder / name, "run__seed": self.seed, **settings}
        sets = [f"--set={key.replace('__', '.')}={value}" for key, value in settings.items()]
        pages.run([self.options.hearken, command, config, *sets])
        return self.folder / name / "final"

    def completions(self, name, model):
        out = self.folder / f"{name}-completions.jsonl"
        pages.run([
            self.options.hearken, "generate", "--model", model, "--input", self.folder / "held-out.jsonl", "--output", out,
            "--max-new-tokens", "24", "--seed", "5",
        ])
        return [json.loads(line)["completion"] for line in out.read_text().splitlines()]

    def start(self, rng):
        """The model that can add, criticize, rewrite and compare."""
        rows = demonstrations(rng, self.options.rounds)
        texts = [" ".join(one["content"] for one in row["prompt"] + row["completion"]) for row in rows[:4000]]
        corpus = write_lines(self.folder / "corpus.jsonl", [{"text": text} for text in texts])
        data = write_lines(self.folder / "demonstrations.jsonl", rows)
        if not (self.folder / "base").exists():
            pages.run([
                self.options.hearken, "init", "--shape", self.options.shape, "--train-tokenizer", corpus, "--vocab-size", "512",
                "--output", self.folder / "base", "--seed", self.seed,
            ])
        return self.command(
            "sft", "start", model__path=self.folder / "base", data__train=data, train__epochs=2, train__batch_size=64,
            optimizer__lr="2e-3", optimizer__schedule="cosine",
        )

    def constitute(self, model, prompts):
        """The chains of the model's own answers."""
        principle = {"name": "digits", "critique": CRITIQUE, "revision": REVISION, "compare": COMPARE}
        rows = [f"{key} = {json.dumps(text)}" for key, text in principle.items()]
        file = self.folder / "principles.toml"
        file.write_text("[[principle]]\n" + "\n".join(rows) + "\n")
        self.command(
            "constitution", "chains", data__prompts=prompts, model__kind="local", model__path=model, principles__file=file,
            revision__rounds=1, revision__max_tokens=24, comparison__method="logprobs", comparison__question=QUESTION,
        )
        return [json.loads(line) for line in (self.folder / "chains" / "chains.jsonl").read_text().splitlines()]

    def reward(self, name, model, data):
        return self.command(
            "reward", name, model__path=model, data__train=json.dumps([str(path) for path in data]), train__epochs=4,
            train__batch_size=32, optimizer__lr="5e-4", optimizer__schedule="cosine",
        )

    def optimize(self, name, model, reward, prompts):
        return self.command(
            "grpo", name, model__path=model, data__train=prompts, rollout__max_new_tokens=24, grpo__prompts=16,
            train__steps=self.options.steps, optimizer__lr="2e-4", kl__beta=0.1,
            score=f"[{{kind=\"model\", path=\"{reward}\"}}]",
        )

    def measure(self):
        rng = random.Random(self.seed)
        start = self.start(rng)
        sums = list(itertools.product(NAMES, ADDENDS, ADDENDS))
        rng.shuffle(sums)
        trained, held_out = sums[: self.options.prompts], sums[self.options.prompts :][: self.options.held_out]
        prompts = [{"prompt": [say("user", asked(sum_))]} for sum_ in trained]
        prompts = write_lines(self.folder / "prompts.jsonl", prompts)
        write_lines(self.folder / "held-out.jsonl", [{"messages": [say("user", asked(sum_))]} for sum_ in held_out])
        human = write_lines(self.folder / "people.jsonl", people(rng, trained, self.options.people))
        before = self.completions("start", start)
        found = {"before": shares(held_out, before, before)}
        chains = self.constitute(start, prompts)
        first = [chain["initial"] for chain in chains]
        revised = [chain["rounds"][0]["revision"] for chain in chains]
        found["first answers"] = shares(trained, first, first)
        found["their revisions"] = shares(trained, revised, first)
        kept = [number_of(one) == number_of(other) for one, other in zip(first, revised)]
        found["their revisions"]["name the same number"] = 100 * statistics.mean(kept)
        differ = [chain for chain in chains if has_digit(chain["initial"]) != has_digit(chain["other"])]
        agree = [(0.5 < chain["probability"]) != has_digit(chain["initial"]) for chain in differ]
        found["comparisons"] = {"one of two has digits": len(differ), "right": 100 * statistics.mean(agree)}
        tuned = self.command(
            "sft", "revised", model__path=start, data__train=self.folder / "chains" / "demonstrations.jsonl", train__epochs=3,
            train__batch_size=32, optimizer__lr="5e-4",
        )
        found["fine-tuned on revisions"] = shares(held_out, self.completions("revised", tuned), before)
        own = self.folder / "chains" / "comparisons.jsonl"
        by_people, by_both = self.reward("people", tuned, [human]), self.reward("both", tuned, [human, own])
        for name, stage, model, reward in [
            ("rl-people", STAGES[4], start, by_people), ("rl-both", STAGES[5], start, by_both),
            ("tuned-rl-both", STAGES[6], tuned, by_both),
        ]:
            policy = self.optimize(name, model, reward, prompts)
            found[stage] = shares(held_out, self.completions(name, policy), before)
        return {"seed": self.seed, **found}


def over_seeds(values):
    """A mean with its interval of 95 %."""
    mean, n = statistics.mean(values), len(values)
    half = T[n] * statistics.stdev(values) / n**0.5
    return {"value": mean, "low": mean - half, "high": mean + half, "n": n, "method": "Student's t over seeds"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hearken", default=pages.HEARKEN)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shape", default="llama,layers=3,width=96,heads=4,positions=160")
    parser.add_argument("--rounds", type=int, default=7000, help="of demonstrations, seven in each")
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--held-out", type=int, default=360)
    parser.add_argument("--people", type=int, default=2400, help="comparisons by people")
    parser.add_argument("--steps", type=int, default=150, help="of reinforcement learning")
    parser.add_argument("--dir", type=pathlib.Path, help="where the runs are kept; those that are there are not run again")
    options = parser.parse_args()
    if len(options.seeds) not in T:
        parser.error(f"--seeds: found {len(options.seeds)}, expected 2 to {max(T)}")
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for seed in options.seeds:
            own = (options.dir or pathlib.Path(folder)) / str(seed)
            own.mkdir(parents=True, exist_ok=True)
            runs.append(World(options, own.resolve(), seed).measure())
            print(json.dumps(runs[-1]), flush=True)
    report = summary(options, runs)
    pages.write_json(OUT, report)
    write_page(report)


def summary(options, runs):
    keys = ("with digits", "right", "wins")
    stages = {stage: {key: over_seeds([run[stage][key] for run in runs]) for key in keys} for stage in STAGES}
    kept = [run["their revisions"]["name the same number"] for run in runs]
    compared = [run["comparisons"]["right"] for run in runs]
    return {
        "machine": pages.machine(), "date": pages.today(), "shape": options.shape, "demonstrations": 7 * options.rounds,
        "prompts": options.prompts, "people": options.people, "steps": options.steps, "stages": stages,
        "revisions that name the same number": over_seeds(kept),
        "comparisons that are right where one of two has digits": over_seeds(compared), "runs": runs,
    }


def shown(values):
    return f"{statistics.mean(values):.1f} ({', '.join(f'{value:.0f}' for value in values)})"


def write_page(report):
    runs = report["runs"]
    rows = [[stage, *(shown([run[stage][key] for run in runs]) for key in ("with digits", "right", "wins"))] for stage in STAGES]
    n = runs[0]["before"]["n"]
    kept = shown([run["their revisions"]["name the same number"] for run in runs])
    compared = shown([run["comparisons"]["right"] for run in runs])
    text = (
        f"A Llama of three layers learns from nothing, on {report['demonstrations']} demonstrations: to add two numbers up to six, as people show it who write {100 * DIGITS:.0f} % of their sums in digits and "
        f"{100 * WRONG:.0f} % wrong; and, on other questions, to say which digits an answer has, to write it without, and which of two has none. By the principle “no digits” it then revises its answers to {report['prompts']} prompts and compares two "
        f"answers to each. Reward models learn from {report['people']} comparisons by simulated people, who prefer the right sum, however it is written, alone or together with the model's own, and GRPO makes {report['steps']} steps. "
        f"Shares of answers in per cent, of {n} held-out prompts but for the first answers and their revisions; an answer wins by a right sum where the model had none before, and equal ones count half. "
        f"Means over {len(runs)} seeds, and each of them; numbers of comparisons and steps were chosen by the first, on these prompts, so that its figures flatter. {pages.machine_sentence(report['machine'])}; {report['date']}. [All numbers, with intervals](results/constitution.json); `python3 bench/constitution.py` makes them again.\n\n"
        + pages.table(["", "with digits", "right", "wins against before"], rows)
        + f"\nOf the revisions {kept} % name the number of the first answer; of the comparisons in which one of two answers has digits {compared} % name that one as the worse."
    )
    pages.replace_section("measured", text, PAGE)


if __name__ == "__main__":
    main()
