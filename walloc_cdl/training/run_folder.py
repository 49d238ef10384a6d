"""A run's folder: its files, and the rules for a folder that exists already.

config.json              everything that the run depends on; written first, never changed
checkpoint.safetensors   the state of training; replaced after every epoch, removed when the run is finished
model.safetensors        the averaged weights
classes.csv              the figures of each class on the validation data, if a classifier was evaluated
record.json              the `RunRecord`; written last: a run that has it is finished
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from walloc_cdl.canonical import canonical_json, first_difference, sha256_hex
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.files import foreign_names, remove_temporaries, write_atomic
from walloc_cdl.training.record import MetricsT, RunRecord

FORMAT = "walloc-cdl run"
FORMAT_VERSION = 1


class RunFolder:
    """The paths and JSON files of one run."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.checkpoint_path = self.path / "checkpoint.safetensors"
        self.weights_path = self.path / "model.safetensors"
        self.classes_path = self.path / "classes.csv"
        self.record_path = self.path / "record.json"

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
        self.path.mkdir(parents=True, exist_ok=True)
        remove_temporaries(self.path)
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, **config}
        write_atomic(self.config_path, _json_bytes(content))

    def load_config(self) -> dict[str, Any]:
        """Returns the run's configuration.

        Raises `CallError` for a folder that is not a run, `DamagedError` for a broken configuration.
        """
        if not self.config_path.is_file():
            raise CallError(f"{self.path} is not a run (no config.json); name a folder that `cdl train` wrote")
        config = _load_json(self.config_path)
        if not isinstance(config, dict) or config.pop("format", None) != FORMAT:
            raise CallError(
                f"{self.path} is not a run (its config.json has another format); name a folder that `cdl train` wrote"
            )
        version = config.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise CallError(f"{self.path} has run format {version}, this program reads {FORMAT_VERSION}; update it")
        return config

    def config_digest(self) -> str:
        """Returns the SHA-256 of the run's configuration, which checkpoints store; raises as `load_config` does."""
        return sha256_hex(canonical_json(self.load_config()))

    def save_record(self, record: RunRecord[Any]) -> None:
        """Write the record, and remove the checkpoint."""
        write_atomic(self.record_path, _json_bytes(record.to_json()))
        self.checkpoint_path.unlink(missing_ok=True)
        remove_temporaries(self.path)

    def load_record(self, make_metrics: Callable[..., MetricsT]) -> RunRecord[MetricsT]:
        """Returns the record of a finished run; `make_metrics` is that of `RunRecord.from_json`.

        Raises `CallError` if the run is not finished, `DamagedError` if the record is broken.
        """
        self.load_config()
        if not self.is_finished:
            raise CallError(f"the run in {self.path} is not finished; run the same `cdl train` again to resume it")
        return RunRecord.from_json(_load_json(self.record_path), make_metrics, origin=str(self.record_path))

    def _discard(self) -> None:
        """Remove the files of a run, config.json last, so that an interrupted removal still leaves a run."""
        self.load_config()  # raises unless this is a run
        files = (self.record_path, self.classes_path, self.weights_path, self.checkpoint_path, self.config_path)
        for path in files:
            path.unlink(missing_ok=True)

    def _require_same(self, config: dict[str, Any]) -> None:
        difference = first_difference(json.loads(canonical_json(config)), self.load_config())
        if difference is not None:
            name, requested, stored = difference
            raise CallError(
                f"the run in {self.path} has {name} {stored!r}, but this call has {requested!r}; "
                "repeat the call that started it, or name another folder"
            )


def _json_bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: not readable as JSON ({error}); restore it from a copy or train again") from error
