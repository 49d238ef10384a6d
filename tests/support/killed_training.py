"""Trains in child processes that are killed at random moments: `python -m tests.support.killed_training DATA OUT SEED`.

It imports once and forks for every attempt, so that many kills take seconds. Prints the number of kills.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from classifiers import TrainConfig, create_model, train
from classifiers.runs.train import SaveInterval
from walloc_cdl.augment.config import PRESETS
from walloc_cdl.data import open_latents

NUM_KILLS = 20
CONFIG = TrainConfig(
    epochs=6, batch_size=8, grad_accum_steps=2, lr=2e-3, augment=PRESETS["light"], keep="best", val_interval=2, seed=5
)


def attempt(data: Path, out: Path, ready: int) -> None:
    """Train to the end, in a child, and tell the parent when the first update is done."""
    train_set, validation = open_latents(data, "train"), open_latents(data, "validation")
    told = False

    def progress(state: object) -> None:
        nonlocal told
        if not told:
            os.write(ready, b"1")
        told = True

    train(
        lambda: create_model("test_resnet", train_set, drop_path_rate=0.2),
        train_set,
        validation,
        CONFIG,
        out,
        threads=1,
        progress=progress,
        save=SaveInterval(None, updates=1),
    )


def start(data: Path, out: Path) -> tuple[int, int]:
    """Returns a child that trains, and a pipe that has a byte, or ends, once it has."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            attempt(data, out, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    return child, reading


def main(data: Path, out: Path, seed: int) -> None:
    torch.set_num_threads(1)
    rng, kills = random.Random(seed), 0
    child, _ = start(data, out / "whole")
    assert os.waitpid(child, 0)[1] == 0
    while True:
        child, ready = start(data, out / "killed")
        if kills < NUM_KILLS:
            os.read(ready, 1)
            time.sleep(rng.uniform(0, 0.2))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(ready)
        if not os.WIFSIGNALED(status):
            break
        kills += 1
    assert status == 0
    print(kills)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
