"""The training loop for models on stored latents: it takes a model and a step, and writes a run's folder."""

from walloc_cdl.training.average import WeightAverage
from walloc_cdl.training.checkpoint import copy_into, load_tensors, require_same_tensors, tensors_to_bytes
from walloc_cdl.training.config import LoopConfig, require_fraction
from walloc_cdl.training.environment import describe_environment, source_commit
from walloc_cdl.training.history import EpochFigures, History
from walloc_cdl.training.loop import Loader, Progress, Step, TrainingLoop, TrainProgress
from walloc_cdl.training.optimizer import build_optimizer
from walloc_cdl.training.precision import PRECISIONS, autocast, choose_precision
from walloc_cdl.training.record import RunRecord
from walloc_cdl.training.run import finish_run, run_epochs
from walloc_cdl.training.run_folder import RunFolder
from walloc_cdl.training.schedule import learning_rate
from walloc_cdl.training.seeding import seed_torch

__all__ = [
    "PRECISIONS",
    "EpochFigures",
    "History",
    "Loader",
    "LoopConfig",
    "Progress",
    "RunFolder",
    "RunRecord",
    "Step",
    "TrainProgress",
    "TrainingLoop",
    "WeightAverage",
    "autocast",
    "build_optimizer",
    "choose_precision",
    "copy_into",
    "describe_environment",
    "finish_run",
    "learning_rate",
    "load_tensors",
    "require_fraction",
    "require_same_tensors",
    "run_epochs",
    "seed_torch",
    "source_commit",
    "tensors_to_bytes",
]
