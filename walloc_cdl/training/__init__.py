"""The training loop for models on stored latents: it takes a model and a step, and writes a run's folder."""

from walloc_cdl.training.checkpoint import copy_into, load_tensors, require_same_tensors, tensors_to_bytes
from walloc_cdl.training.config import PRECISIONS, LoopConfig, require_fraction
from walloc_cdl.training.environment import describe_environment, source_commit
from walloc_cdl.training.history import EpochFigures, History
from walloc_cdl.training.interfaces import DivergedError, Loader, Progress, TrainProgress
from walloc_cdl.training.loop import TrainingLoop
from walloc_cdl.training.optimizer import build_optimizer
from walloc_cdl.training.precision import autocast, choose_precision, compiled
from walloc_cdl.training.processes import Processes
from walloc_cdl.training.record import RunRecord
from walloc_cdl.training.run import SaveInterval, finish_run, run_epochs
from walloc_cdl.training.run_folder import RunFolder
from walloc_cdl.training.schedule import build_schedule
from walloc_cdl.training.seeding import seed_torch
from walloc_cdl.training.trackers import Trackers
from walloc_cdl.training.update import Step

__all__ = [
    "PRECISIONS",
    "DivergedError",
    "EpochFigures",
    "History",
    "Loader",
    "LoopConfig",
    "Processes",
    "Progress",
    "RunFolder",
    "RunRecord",
    "SaveInterval",
    "Step",
    "Trackers",
    "TrainProgress",
    "TrainingLoop",
    "autocast",
    "build_optimizer",
    "build_schedule",
    "choose_precision",
    "compiled",
    "copy_into",
    "describe_environment",
    "finish_run",
    "load_tensors",
    "require_fraction",
    "require_same_tensors",
    "run_epochs",
    "seed_torch",
    "source_commit",
    "tensors_to_bytes",
]
