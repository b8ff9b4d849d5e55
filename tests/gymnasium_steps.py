#!/usr/bin/env python3
"""Steps of Gymnasium's classic control tasks, for the tests of hearken-env.

    pip install gymnasium
    python tests/gymnasium_steps.py            writes crates/hearken-env/tests/fixtures/gymnasium/
    python tests/gymnasium_steps.py --compare target/release/hearken [SEED]
                                               gives the program other steps and prints the largest differences

Each line is {"state", "action", "next_state", "observation", "reward", "terminated"}: one step of the real package
from a state that was put into it, or the steps of an episode, one after another. Actions are numpy.array(action),
of doubles; the state of an episode has the type that Gymnasium gives it.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import gymnasium
import numpy

TASKS = ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1"]
# Half-widths of the states that are drawn; beyond the ends of each task.
WIDTHS = {
    "CartPole-v1": [3.0, 4.0, 0.3, 4.0],
    "Pendulum-v1": [30.0, 9.0],
    "MountainCar-v0": [1.3, 0.08],
    "MountainCarContinuous-v0": [1.3, 0.08],
    "Acrobot-v1": [7.0, 7.0, 14.0, 30.0],
}
FOLDER = pathlib.Path(__file__).parent.parent / "crates/hearken-env/tests/fixtures/gymnasium"


def action_of(environment, rng):
    space = environment.action_space
    if hasattr(space, "n"):
        return int(rng.integers(space.n))
    return [float(rng.uniform(1.5 * low, 1.5 * high)) for low, high in zip(space.low, space.high)]


def step(environment, action):
    given = action if isinstance(action, int) else numpy.array(action)
    before = [float(x) for x in environment.state]
    observation, reward, terminated, _, _ = environment.step(given)
    return {
        "state": before,
        "action": action,
        "next_state": [float(x) for x in environment.state],
        "observation": [float(x) for x in observation],
        "reward": float(reward),
        "terminated": bool(terminated),
    }


def steps(name, rng, drawn, episodes, length):
    lines = []
    for _ in range(drawn):
        environment = gymnasium.make(name).unwrapped
        environment.reset(seed=0)
        environment.state = numpy.array([rng.uniform(-w, w) for w in WIDTHS[name]])
        lines.append(step(environment, action_of(environment, rng)))
    for episode in range(episodes):
        environment = gymnasium.make(name).unwrapped
        environment.reset(seed=int(rng.integers(1 << 30)))
        action = None
        for at in range(length):
            # Held for a while, an action leads farther than noise does.
            if action is None or rng.uniform() < 0.1:
                action = action_of(environment, rng)
            lines.append(step(environment, action))
            if lines[-1]["terminated"]:
                break
    return lines


def write():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in TASKS:
        rng = numpy.random.default_rng(18)
        lines = steps(name, rng, 60, 3, 60)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (FOLDER / f"{name}.jsonl").write_text(text)
    provenance = (
        "Steps of Gymnasium's classic control tasks, written by tests/gymnasium_steps.py with gymnasium "
        f"{gymnasium.__version__} and numpy {numpy.__version__}.\n"
    )
    (FOLDER / "PROVENANCE.md").write_text(provenance)


def compare(program, seed):
    for name in TASKS:
        lines = steps(name, numpy.random.default_rng(seed), 3000, 20, 400)
        with tempfile.TemporaryDirectory() as folder:
            given, got = pathlib.Path(folder) / "in.jsonl", pathlib.Path(folder) / "out.jsonl"
            given.write_text("".join(json.dumps({k: line[k] for k in ("state", "action")}) + "\n" for line in lines))
            command = [program, "control", "replay", "--env", name, "--input", given, "--output", got]
            subprocess.run(command, check=True)
            results = [json.loads(line) for line in got.read_text().splitlines()]
        assert len(results) == len(lines)
        largest = {"next_state": 0.0, "observation": 0.0, "reward": 0.0}
        for line, result in zip(lines, results):
            assert result["terminated"] == line["terminated"], (name, line, result)
            for key, own in (("next_state", "state"), ("observation", "observation"), ("reward", "reward")):
                pairs = zip(numpy.atleast_1d(line[key]), numpy.atleast_1d(result[own]))
                largest[key] = max([largest[key]] + [abs(a - b) for a, b in pairs])
        print(f"{name}: {len(lines)} steps, largest differences {largest}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--compare"]:
        compare(sys.argv[2], int(sys.argv[3]) if sys.argv[3:] else 7)
    else:
        write()
