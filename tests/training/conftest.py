"""A training loop for the tests: a small model on a tiny data set."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.support.small_sets import write_small_set
from walloc_cdl.data import LatentLoader, open_latents
from walloc_cdl.threads import torch_threads
from walloc_cdl.training import LoopConfig, TrainingLoop


@pytest.fixture(autouse=True)
def one_thread():
    """So that no trial chooses the number of threads, on which the last bits of the weights depend."""
    with torch_threads(1):
        yield


@pytest.fixture
def make_loop(tmp_path_factory) -> Callable[..., TrainingLoop]:
    """`make_loop(step=…, **settings)`: a linear model of codes (2, 2, 3), seeded, which by default learns the mean."""
    folder = tmp_path_factory.mktemp("data")
    write_small_set(folder, {"train": [9, 4, 16]})

    def make(
        step: Callable | None = None, loader_options: dict | None = None, evaluate=None, **settings
    ) -> TrainingLoop:
        config = LoopConfig(**{"epochs": 3, "batch_size": 8, "seed": 4, **settings})
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3), nn.Dropout(0.2), nn.Linear(3, 1))
        loader = LatentLoader(open_latents(folder), config.batch_size, seed=config.seed, **(loader_options or {}))

        def learn_the_mean(codes: Tensor, targets: Tensor, words: Tensor) -> Tensor:
            values = codes.float() / 255
            return (model(values)[:, 0] - values.mean((1, 2, 3))).square().mean()

        chosen = learn_the_mean if step is None else lambda *batch: step(model, *batch)
        return TrainingLoop(model, chosen, loader, config, device=torch.device("cpu"), evaluate=evaluate)

    return make
