#!/usr/bin/env python3
"""PPO on CartPole-v1 beside Stable-Baselines3, at the same settings, in turns.

    pip install torch gymnasium stable-baselines3
    HEARKEN_PYTHON=python3 cargo xtask results control_speed

runs this with the program as its argument. It prints JSON: environment steps per second of whole iterations (acting and updating), round by round. Each of the two is
measured with one thread and with as many as it takes by itself.
"""

import json
import os
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

ROUNDS = 3
STEPS = 6144
SETTINGS = {
    "environment.copies": 8,
    "network.hidden": [64, 64],
    "network.activation": "tanh",
    "ppo.steps": 256,
    "ppo.minibatch": 64,
    "ppo.epochs": 10,
    "ppo.gamma": 0.99,
    "ppo.gae_lambda": 0.95,
    "ppo.clip_decays": "false",
    "optimizer.lr": 3e-4,
    "optimizer.schedule": "constant",
    "train.eval_episodes": 1,
    "train.clip_frames": 0,
    "train.save_minutes": 0,
}


def theirs(threads, seed):
    torch.set_num_threads(threads)
    environments = make_vec_env("CartPole-v1", n_envs=8, seed=seed)
    network = dict(net_arch=dict(pi=[64, 64], vf=[64, 64]), activation_fn=torch.nn.Tanh)
    model = PPO("MlpPolicy", environments, n_steps=256, batch_size=64, n_epochs=10, seed=seed, device="cpu", policy_kwargs=network)
    model.learn(2048)
    start = time.perf_counter()
    model.learn(STEPS)
    return STEPS / (time.perf_counter() - start)


def ours(program, threads, seed):
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "control", "train", "--env", "CartPole-v1"]
        # Twenty times as many steps: as many take a fraction of a second.
        settings = {**SETTINGS, "train.environment_steps": 20 * STEPS, "run.dir": folder, "run.seed": seed}
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        records = [json.loads(line) for line in (pathlib.Path(folder) / "metrics.jsonl").open()]
    seconds = sum(record["seconds"] for record in records if "seconds" in record)
    return records[-1]["environment_steps"] / seconds


def main():
    threads = {"one_thread": 1, "own_threads": torch.get_num_threads()}
    rounds = []
    for seed in range(ROUNDS):
        speeds = {"seed": seed, "stable_baselines3": {}, "hearken": {}}
        for name, count in threads.items():
            speeds["stable_baselines3"][name] = theirs(count, seed)
            speeds["hearken"][name] = ours(sys.argv[1], count, seed)
        rounds.append(speeds)
        print(json.dumps(speeds), file=sys.stderr)
    print(
        json.dumps(
            {
                "stable_baselines3": stable_baselines3.__version__,
                "torch": torch.__version__,
                "gymnasium": gymnasium.__version__,
                "threads": threads,
                "unit": "environment steps per second",
                "rounds": rounds,
            }
        )
    )


if __name__ == "__main__":
    main()
