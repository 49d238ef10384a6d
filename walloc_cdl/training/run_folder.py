"""A run's folder: its files, and the rules for a folder that exists already.

config.json              everything that the run depends on; written first, never changed
recipe.toml              the settings of the run as `cdl train --recipe` takes them, if the command started it
checkpoint.safetensors   the state of training; replaced after every epoch and within long ones, removed at the end
features.bin, .json      features of frozen layers, while they train others; removed when the run is finished
diverged.json            why a run cannot go on, if its loss diverged
model.safetensors        the averaged weights, of the last epoch or of the best
logs/                    what trackers wrote
codec/                   the codec of the data set, so that files can be classified without it
classes.csv              the figures of each class on the validation data, if a classifier was evaluated
index.html               the page of the run: curves, worst mistakes, confusion matrix, calibration
record.json              the `RunRecord`; written last: a run that has it is finished
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from walloc_cdl.addresses import local_path
from walloc_cdl.canonical import canonical_json, first_difference, sha256_hex
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.fields import shorten
from walloc_cdl.files import (
    foreign_names,
    make_folder,
    remove_file,
    remove_folder,
    remove_temporaries,
    remove_tree,
    write_atomic,
)
from walloc_cdl.json_files import read_json
from walloc_cdl.training.checkpoint import REMEDY
from walloc_cdl.training.interfaces import DivergedError
from walloc_cdl.training.record import MetricsT, RunRecord

FORMAT = "walloc-cdl run"
FORMAT_VERSION = 2
CODEC_FILES = ("config.json", "model.safetensors")
"""Files in `codec/`."""
MAX_RECORD_BYTES = 1 << 28
"""Larger records are refused; the confusion matrix of 5,000 classes takes as much."""


class RunFolder:
    """The paths and JSON files of one run."""

    def __init__(self, path: Path | str) -> None:
        self.path = local_path(path)
        self.config_path = self.path / "config.json"
        self.checkpoint_path = self.path / "checkpoint.safetensors"
        self.features_paths = self.path / "features.bin", self.path / "features.json"
        self.diverged_path = self.path / "diverged.json"
        self.weights_path = self.path / "model.safetensors"
        self.codec_path = self.path / "codec"
        self.classes_path = self.path / "classes.csv"
        self.page_path = self.path / "index.html"
        self.record_path = self.path / "record.json"
        self.recipe_path = self.path / "recipe.toml"
        self.logs_path = self.path / "logs"

    @property
    def is_finished(self) -> bool:
        """Whether the run has written its record."""
        return self.record_path.is_file()

    def claim(self, config: dict[str, Any], *, resume: bool) -> None:
        """Make this the folder of a run of `config`, unless it is already.

        Without `resume` an earlier run in it is discarded. Raises `CallError`, without changing anything, if it holds
        other files or, with `resume`, a run of another configuration.
        """
        if self.path.exists() and not self.path.is_dir():
            raise CallError(f"{self.path} is a file; name a folder for the run")
        if self.config_path.is_file():
            if resume:
                self._require_same(config)
                return
            self._discard()
        elif foreign := foreign_names(self.path, set()):
            raise CallError(
                f"{self.path} holds files that belong to no run ({foreign[0]}); name an empty or a new folder"
            )
        make_folder(self.path)
        remove_temporaries(self.path)
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, **config}
        write_atomic(self.config_path, _json_bytes(content))

    def load_config(self) -> dict[str, Any]:
        """Returns the run's configuration.

        Raises `CallError` for a folder that is not a run, `DamagedError` for a broken configuration.
        """
        if not self.config_path.is_file():
            raise CallError(f"{self.path} is not a run (no config.json); name a folder that `cdl train` wrote")
        config = read_json(self.config_path, remedy=REMEDY)
        if not isinstance(config, dict) or config.pop("format", None) != FORMAT:
            raise CallError(
                f"{self.path} is not a run (its config.json has another format); name a folder that `cdl train` wrote"
            )
        version = config.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise CallError(
                f"{self.path} has run format {shorten(version)}, this program reads {FORMAT_VERSION}; update it"
            )
        return config

    def config_digest(self) -> str:
        """Returns the SHA-256 of the run's configuration, which checkpoints store; raises as `load_config` does."""
        return sha256_hex(canonical_json(self.load_config()))

    def note_divergence(self, reason: str) -> None:
        """Record that the run cannot go on, since the same call would train to the same end again."""
        write_atomic(self.diverged_path, _json_bytes({"reason": reason}))

    def require_not_diverged(self) -> None:
        """Raise `DivergedError`, with the recorded reason and what to do, if the run has diverged before."""
        if not self.diverged_path.is_file():
            return
        values = read_json(self.diverged_path, remedy="remove it to resume the run")
        reason = values.get("reason") if isinstance(values, dict) else None
        if not isinstance(reason, str):
            raise DamagedError(f"{self.diverged_path}: no reason in it; remove it to resume the run")
        raise DivergedError(
            f"{reason}; so ended an earlier call of the run in {self.path}: start over there with --restart "
            f"(resume=False), or remove {self.diverged_path.name} to resume from the last checkpoint"
        )

    def save_record(self, record: RunRecord[Any]) -> None:
        """Write the record, and remove the checkpoint and the features."""
        write_atomic(self.record_path, _json_bytes(record.to_json()))
        for path in (self.checkpoint_path, *self.features_paths):
            remove_file(path)
        remove_temporaries(self.path)

    def load_record(self, metrics_type: type[MetricsT]) -> RunRecord[MetricsT]:
        """Returns the record of a finished run; `metrics_type` is that of `RunRecord.from_json`.

        Raises `CallError` if the run is not finished, `DamagedError` if the record is broken.
        """
        self.load_config()
        if not self.is_finished:
            raise CallError(f"the run in {self.path} is not finished; run the same `cdl train` again to resume it")
        fields = read_json(self.record_path, max_bytes=MAX_RECORD_BYTES, remedy=REMEDY)
        return RunRecord.from_json(fields, metrics_type, origin=str(self.record_path))

    def _discard(self) -> None:
        """Remove the files of a run, config.json last, so that an interrupted removal still leaves a run."""
        self.load_config()  # raises unless this is a run
        if self.logs_path.is_dir() and not self.logs_path.is_symlink():
            remove_tree(self.logs_path)
        for path in (
            self.record_path,
            self.classes_path,
            self.page_path,
            self.weights_path,
            self.checkpoint_path,
            *self.features_paths,
            self.diverged_path,
            self.recipe_path,
            *(self.codec_path / name for name in CODEC_FILES),
            self.config_path,
        ):
            remove_file(path)
        remove_folder(self.codec_path)

    def _require_same(self, config: dict[str, Any]) -> None:
        difference = first_difference(json.loads(canonical_json(config)), self.load_config())
        if difference is not None:
            name, requested, stored = difference
            raise CallError(
                f"the run in {self.path} has {name[:60]} {shorten(stored, 400)}, but this call has "
                f"{shorten(requested, 400)}; "
                "repeat the call that started it, or name another folder"
            )


def _json_bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
