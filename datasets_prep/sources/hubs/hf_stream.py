"""`hf:NAME?streaming=1`: a data set of the Hub, or Parquet files, streamed without a local copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, DatasetDict, Features, Image, IterableDataset, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError

from datasets_prep.sources.core.streaming_source import StreamedSample, StreamingSource
from datasets_prep.sources.hubs.hf_columns import ColumnLabels, ColumnOptions, image_column, split_columns
from datasets_prep.sources.hubs.huggingface import encoded, is_saved, named_files
from walloc_cdl.errors import CallError, JobError, one_line


def open_hub_stream(text: str) -> StreamingSource:
    """Open the stream `NAME[:CONFIG]?streaming=1`; raises `CallError` if it cannot be opened."""
    name, options = split_columns(text, "streaming")
    folder = Path(name)
    path, _, config = (name, "", "") if folder.is_dir() else name.partition(":")
    try:
        splits = _opened(path, config or None, saved=is_saved(folder))
    except (DatasetsError, OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        cause = one_line(error, 300)
        raise CallError(f"data set {name!r} cannot be streamed: {cause}; check its name and the network") from error
    if folder.is_dir():
        return HuggingFaceStream(folder.resolve().name, splits, options, folder=folder)
    return HuggingFaceStream(path, splits, options)


class HuggingFaceStream(StreamingSource):
    """The splits of a `datasets.IterableDatasetDict`; labels come from a `ClassLabel` column."""

    def __init__(
        self,
        name: str,
        splits: Mapping[str, IterableDataset],
        options: ColumnOptions | None = None,
        *,
        folder: Path | None = None,
    ) -> None:
        """`folder`: see `HuggingFaceSource`; a file that a row may not name is an unusable sample.

        Raises `CallError` if it is ambiguous which column holds the images or the labels, for labels without class
        names, and for multiple labels per sample.
        """
        options = options or ColumnOptions()
        self._files = named_files(options, folder)
        first = next(iter(splits.values()))
        features = first.features or first._resolve_features().features
        if features is None:
            raise CallError(f"data set {name!r} does not say what its columns hold; open it without ?streaming=1")
        if options.target or options.group or options.keep:
            raise CallError("source options target, group and keep need all rows; omit ?streaming=1")
        self._image = image_column(name, features, options.image)
        labels = ColumnLabels(name, features, options)
        self._label = labels.columns[0] if labels.columns and not labels.is_tentative else None
        if self._label is not None and not isinstance(features[self._label], ClassLabel):
            raise CallError(
                f"column {self._label!r} of data set {name!r} holds {features[self._label]}; the labels of a stream "
                "must be a ClassLabel, one per sample, since class names are needed before its end: omit ?streaming=1"
            )
        self._splits = {split: rows.cast_column(self._image, Image(decode=False)) for split, rows in splits.items()}
        notes = labels.notes() if self._label is None else []
        if labels.is_tentative:
            notes = [
                f"no labels: column {labels.columns[0]!r} of data set {name!r} holds floats, and only the end of the "
                "stream shows whether they are classes; cast it to a ClassLabel, or omit ?streaming=1"
            ]
        super().__init__(name, list(splits), _class_names(features, self._label), notes=notes)

    def stream(self, split: str, start: int = 0) -> Iterator[StreamedSample]:
        """See `StreamingSource.stream`."""
        if split not in self._splits:
            raise CallError(f"source {self.name} has no split {split!r}; it has {', '.join(self._splits)}")
        number = start
        try:
            for row in self._splits[split].skip(start):
                yield f"{number:08d}", self._label_of(row), encoded(row[self._image], self._files)
                number += 1
        except (DatasetsError, ValueError, RuntimeError, pa.ArrowException) as error:
            cause = one_line(error)
            raise JobError(
                f"stream {self.name} was interrupted at sample {number} of split {split!r}: {cause}; run the same "
                "command again to continue"
            ) from error

    def _label_of(self, row: dict[str, Any]) -> int | str | None:
        return None if self._label is None else row.get(self._label)


def _opened(path: str, config: str | None, *, saved: bool) -> dict[str, IterableDataset]:
    if not saved:
        return dict(load_dataset(path, config, streaming=True))
    found = load_from_disk(path)
    splits = found if isinstance(found, DatasetDict) else {"train": found}
    return {split: rows.to_iterable_dataset() for split, rows in splits.items()}


def _class_names(features: Features, label: str | None) -> list[str] | None:
    feature = features[label] if label is not None else None
    return list(feature.names) if isinstance(feature, ClassLabel) else None
