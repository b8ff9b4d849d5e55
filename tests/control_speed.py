#!/usr/bin/env python3
"""PPO on CartPole-v1 beside Stable-Baselines3, at the same settings, one after the other, three times.

    pip install torch gymnasium stable-baselines3
    cargo build --release
    python tests/control_speed.py target/release/hearken

Prints environment steps per second of whole iterations (acting and updating), and writes docs/results/control_speed.json.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import gymnasium
import stable_baselines3
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

STEPS = 20480
SETTINGS = {
    "environment.copies": 8,
    "ppo.steps": 256,
    "ppo.minibatch": 64,
    "ppo.epochs": 10,
    "ppo.gamma": 0.99,
    "ppo.gae_lambda": 0.95,
    "ppo.clip_decays": "false",
    "optimizer.lr": 3e-4,
    "optimizer.schedule": '"constant"',
    "train.eval_episodes": 1,
}


def theirs(seed):
    environments = make_vec_env("CartPole-v1", n_envs=8, seed=seed)
    network = dict(net_arch=dict(pi=[64, 64], vf=[64, 64]))
    model = PPO("MlpPolicy", environments, n_steps=256, batch_size=64, n_epochs=10, seed=seed, device="cpu", policy_kwargs=network)
    model.learn(2048)
    start = time.perf_counter()
    model.learn(STEPS)
    return STEPS / (time.perf_counter() - start)


def ours(program, seed):
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "control", "train", "--env", "CartPole-v1"]
        # Five times as many steps: as many take a third of a second.
        settings = {**SETTINGS, "train.environment_steps": 5 * STEPS, "run.dir": folder, "run.seed": seed}
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        subprocess.run(command, check=True, capture_output=True)
        records = [json.loads(line) for line in (pathlib.Path(folder) / "metrics.jsonl").open()]
    seconds = sum(record["seconds"] for record in records if "seconds" in record)
    return records[-1]["environment_steps"] / seconds


def main():
    runs = []
    for seed in range(3):
        run = {"seed": seed, "stable_baselines3": theirs(seed), "hearken": ours(sys.argv[1], seed)}
        run["ratio"] = run["hearken"] / run["stable_baselines3"]
        runs.append(run)
        print(f"seed {seed}: Stable-Baselines3 {run['stable_baselines3']:.0f} steps/s, Hearken {run['hearken']:.0f}, {run['ratio']:.1f} times")
    about = {
        "command": "python tests/control_speed.py target/release/hearken",
        "date": time.strftime("%Y-%m-%d"),
        "stable_baselines3": stable_baselines3.__version__,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "gymnasium": gymnasium.__version__,
    }
    path = pathlib.Path(__file__).parent.parent / "docs/results/control_speed.json"
    path.write_text(json.dumps({"about": about, "unit": "environment steps per second", "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
