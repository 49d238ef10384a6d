"""`hf:NAME?streaming=1`: a data set of the hub, or Parquet files, read as it comes, without a copy on this disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Features, Image, IterableDataset, load_dataset
from datasets.exceptions import DatasetsError

from datasets_prep.sources.hf_columns import ColumnLabels, ColumnOptions, image_column, split_columns
from datasets_prep.sources.huggingface import encoded
from datasets_prep.sources.streams import StreamedSample, StreamingSource
from walloc_cdl.errors import CallError


def open_hub_stream(text: str) -> StreamingSource:
    """The stream `NAME[:CONFIG]?streaming=1`."""
    name, options = split_columns(text, streaming=True)
    path, _, config = name.partition(":")
    try:
        splits = load_dataset(path, config or None, streaming=True)
    except (DatasetsError, OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        cause = " ".join(str(error).split())[:300]
        raise CallError(f"data set {name!r} cannot be streamed: {cause}; check its name and the network") from error
    return HuggingFaceStream(path, dict(splits), options)


class HuggingFaceStream(StreamingSource):
    """Splits of a `datasets.IterableDatasetDict`; labels are those of a column of classes."""

    def __init__(self, name: str, splits: dict[str, IterableDataset], options: ColumnOptions) -> None:
        first = next(iter(splits.values()))
        features = first.features or first._resolve_features().features
        if features is None:
            raise CallError(f"data set {name!r} does not say what its columns hold; open it without ?streaming=1")
        if options.target or options.group or options.keep:
            raise CallError("source options target, group and keep need all rows; leave out ?streaming=1")
        self._image = image_column(name, features, options.image)
        columns = ColumnLabels(name, features, options).columns
        self._label = columns[0] if columns else None
        self._splits = {split: rows.cast_column(self._image, Image(decode=False)) for split, rows in splits.items()}
        super().__init__(name, list(splits), _class_names(features, self._label))

    def stream(self, split: str, start: int = 0) -> Iterator[StreamedSample]:
        """See `StreamingSource.stream`."""
        if split not in self._splits:
            raise CallError(f"source {self.name} has no split {split!r}; it has {', '.join(self._splits)}")
        for number, row in enumerate(self._splits[split].skip(start), start):
            yield f"{number:08d}", self._label_of(row), encoded(row[self._image])

    def _label_of(self, row: dict[str, Any]) -> int | str | None:
        return None if self._label is None else row[self._label]


def _class_names(features: Features, label: str | None) -> list[str] | None:
    feature = features[label] if label is not None else None
    return list(feature.names) if isinstance(feature, ClassLabel) else None
