"""Trackers of others, such as TensorBoard, through accelerate: the figures of a run's epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from walloc_cdl.errors import CallError, unknown_name

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

    from walloc_cdl.training.loop import TrainingLoop


class Trackers:
    """Open trackers of one run; without names it does nothing.

    Names are those of accelerate (`tensorboard`, `wandb`, …). Raises `CallError` for a name that accelerate does not
    have, or whose package is not installed.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(dict.fromkeys(names))
        self._open: list[GeneralTracker] = []
        if not self._names:
            return
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

        available = [str(name) for name in get_available_trackers()]
        for name in self._names:
            if name not in LOGGER_TYPE_TO_CLASS:
                raise unknown_name("tracker", name, LOGGER_TYPE_TO_CLASS, f"installed are {', '.join(available)}")
            if name not in available:
                raise CallError(f"tracker {name!r} is not installed; install it (pip install {name}), or omit it")

    def start(self, folder: Path, project: str, settings: Mapping[str, Any]) -> None:
        """Open the trackers; those that write files write them to `folder`. Settings are those of the run."""
        if not self._names:
            return
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # accelerate's trackers ask it which process they are in
        plain = {
            name: value if isinstance(value, (int, float, str)) else str(value) for name, value in settings.items()
        }
        for name in self._names:
            kind: Any = LOGGER_TYPE_TO_CLASS[name]
            tracker = kind(project, **({"logging_dir": folder} if kind.requires_logging_directory else {}))
            if hasattr(tracker, "start"):  # older versions start when they are made
                tracker.start()
            self._open.append(tracker)
            tracker.store_init_configuration(plain)

    def log_epoch(self, loop: TrainingLoop) -> None:
        """Log the figures of the last finished epoch, at the number of updates."""
        if not self._open:
            return
        figures = loop.history.epochs[-1]
        values = {
            "epoch": loop.epoch,
            "train/loss": figures.loss,
            "train/lr": figures.lr,
            "train/images_per_s": figures.images_per_s,
            **{f"eval/{name}": value for name, value in (figures.metrics or {}).items()},
        }
        for tracker in self._open:
            tracker.log(values, step=loop.epoch * loop.updates_per_epoch)

    def finish(self) -> None:
        """Close the trackers."""
        for tracker in self._open:
            tracker.finish()
        self._open = []
