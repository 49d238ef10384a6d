"""`hf:NAME`: data sets that Hugging Face `datasets` opens, from the Hub or from disk. Images stay encoded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Features, Image, config, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError
from huggingface_hub.constants import HF_HUB_CACHE

from datasets_prep.samples.columns import Column, RowNumbers, TextColumn, Texts
from datasets_prep.samples.lazy_sequence import LazySequence
from datasets_prep.samples.named_files import NamedFiles
from datasets_prep.samples.stored import Stored
from datasets_prep.sources.core.source import Listing, Source, SplitListing
from datasets_prep.sources.hubs.common_schema import common_schema
from datasets_prep.sources.hubs.hf_columns import (
    ColumnLabels,
    ColumnOptions,
    image_column,
    require_column,
    split_columns,
    texts,
)
from walloc_cdl.errors import CallError, one_line
from walloc_cdl.latents import UNKNOWN_LABEL

SCAN_ROWS = 1024


def open_hub(text: str) -> Source:
    """Open the data set `NAME[:CONFIG]`: from the Hub, a local data set folder, or one written by `save_to_disk`.

    Raises `CallError` if it cannot be opened, and for the option `streaming`.
    """
    name, options = split_columns(text, "streaming")
    if options.streaming:
        raise CallError(
            f"hf:{name} as a stream has no listing and no access to single samples, which only `cdl prepare` and "
            "datasets_prep.open_stream() do not need; omit ?streaming=1"
        )
    folder = Path(name)
    if folder.is_dir():
        splits = _opened(name, None, from_disk=is_saved(folder))
        return HuggingFaceSource(folder.resolve().name, splits, options, folder=folder)
    if folder.is_absolute() or name.startswith((".", "~")):
        raise CallError(f"no data set folder {name!r}; give an existing folder, or the name of a data set on the Hub")
    name, _, config = name.partition(":")
    return HuggingFaceSource(name, _opened(name, config or None), options)


class HuggingFaceSource(Source):
    """The splits of a `datasets.DatasetDict`; a sample's key is its row number.

    Labels come from a column of `ClassLabel` or of lists of `ClassLabel`, or are the values of a column called
    `label`. Raises `CallError` if it is ambiguous which column holds the images or the labels, and for a row with the
    path of a file that the data set may not name.
    """

    def __init__(
        self, name: str, splits: DatasetDict, options: ColumnOptions | None = None, *, folder: Path | None = None
    ) -> None:
        """`folder`: the data set's folder, which contains the files that its rows may name; see `named_files`."""
        options = options or ColumnOptions()
        self._files = named_files(options, folder)
        # a split without labels, such as a test split, may lack their column
        every = {name: kind for rows in reversed(splits.values()) for name, kind in rows.features.items()}
        features = Features(every)
        self._image = image_column(name, features, options.image)
        labels = ColumnLabels(name, features, options)
        for split, rows in splits.items():
            for column in (self._image, *options.keep, *([options.group] if options.group else [])):
                require_column(f"{name}, split {split}", rows.features, column)
            if labels.are_missing(rows.features, f"{name}, split {split}"):
                labels.append_unknown(split, len(rows))
                continue
            labels.require_same(rows.features, f"split {split!r}")
            for batch in _arrow_batches(rows, labels.columns) if labels.columns else ():
                labels.append(split, batch)
        self._images = {split: _encoded_images(name, rows, self._image) for split, rows in splits.items()}
        kept = common_schema(_kept_schemas(name, splits, options.keep)) if options.keep else None
        names = labels.labels.names() if labels.labels is not None else None
        listings = {
            split: SplitListing(
                keys=RowNumbers(len(images)),
                labels=labels.labels.close(split)
                if labels.labels is not None and names
                else np.full(len(images), UNKNOWN_LABEL, np.int64),
                num_bytes=_sizes(images, self._image, self._files, f"data set {name!r}, split {split!r}"),
                groups=_groups(splits[split], options.group) if options.group else None,
                columns=None if kept is None else _table(splits[split], options.keep).cast(kept),
            )
            for split, images in self._images.items()
        }
        kind = labels.labels.kind if labels.labels is not None and names else None
        super().__init__(name, Listing(listings, names, label_kind=kind, notes=labels.notes()))

    def read(self, split: str, index: int) -> Stored:
        """Return the encoded image, or its location if the data set holds only that; b"" for a missing image."""
        return encoded(self._images[split][index][self._image], self._files)

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """See `Source.references`. A data set on disk is pickled as the names of its files."""
        return _Rows(self._images[split].select(rows), self._image, self._files)


class _Rows(LazySequence[Stored]):
    """Images of selected rows. An image is read when its item is accessed."""

    def __init__(self, rows: Dataset, column: str, files: NamedFiles) -> None:
        self._rows, self._column, self._files = rows, column, files

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, position: int) -> Stored:
        return encoded(self._rows[position][self._column], self._files)


def encoded(value: dict[str, Any] | None, files: NamedFiles) -> Stored:
    """Return an image as `datasets` stores it: the encoded file, or its location; b"" for a missing image.

    An image that is a file which the data set may not name is an `UnusableSample`.
    """
    stored = value or {}
    if stored.get("bytes") is None and stored.get("path"):
        return files.stored(stored["path"])
    return stored.get("bytes") or b""


def named_files(options: ColumnOptions, folder: Path | None) -> NamedFiles:
    """Return which files the rows of a data set may name: those in its folder, and those in the caches of `datasets`.

    `datasets` downloads files and unpacks archives into its caches, and stores absolute paths.
    """
    caches = (config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, HF_HUB_CACHE)
    own = [] if folder is None else [os.path.abspath(folder), os.path.realpath(folder)]
    roots = (*own, *(os.path.abspath(cache) for cache in caches))
    return NamedFiles(own[0] if own else None, absolute=options.absolute, public=options.public, roots=roots)


def is_saved(folder: Path) -> bool:
    """Return whether `save_to_disk` has written the folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _opened(name: str, config: str | None, *, from_disk: bool = False, **options: object) -> DatasetDict:
    try:
        found = load_from_disk(name) if from_disk else load_dataset(name, config, **options)
    except (DatasetsError, OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        cause = one_line(error, 300)
        raise CallError(
            f"data set {name!r} cannot be opened: {cause}; check its name, its configuration and the network"
        ) from error
    splits = found if isinstance(found, DatasetDict) else DatasetDict({"train": found})
    if not any(len(rows) for rows in splits.values()):
        raise CallError(f"data set {name!r} has no rows; give one with images")
    return splits


def _encoded_images(name: str, rows: Dataset, column: str) -> Dataset:
    try:
        return rows.select_columns([column]).cast_column(column, Image(decode=False))
    except (TypeError, ValueError, pa.ArrowException) as error:
        kind = rows.features[column]
        raise CallError(
            f"column {column!r} of data set {name!r} holds {kind}, not images; choose another with ?image=COLUMN"
        ) from error


def _sizes(images: Dataset, column: str, files: NamedFiles, where: str) -> np.ndarray:
    """Return the size of each encoded image in bytes, int64 (N,), without reading the images; 0 if it is unknown."""
    sizes, row = Column(np.int64), 0
    for batch in _arrow_batches(images, [column]):
        array = batch.column(column).combine_chunks()
        require_named_files(array, files, where, row)
        sizes.extend(np.array(_array_sizes(array, files), np.int64))
        row += len(array)
    return sizes.array()


def require_named_files(array: pa.StructArray, files: NamedFiles, where: str, first_row: int) -> None:
    """Raise `CallError` for the first row without bytes whose path the data set may not name."""
    data, paths = pc.struct_field(array, "bytes"), pc.struct_field(array, "path")
    for row in np.flatnonzero(pc.and_(pc.is_null(data), pc.is_valid(paths)).to_numpy(zero_copy_only=False)):
        if path := paths[int(row)].as_py():
            files.require(path, lambda number=first_row + int(row): f"{where}, row {number}")


def _groups(rows: Dataset, column: str) -> Texts:
    names = TextColumn()
    for batch in _arrow_batches(rows, [column]):
        for text in texts(batch.column(column)):
            names.append(text)
    return names.texts()


def _kept_schemas(name: str, splits: DatasetDict, columns: Sequence[str]) -> Iterator[tuple[str, pa.Schema]]:
    for split, rows in splits.items():
        yield f"split {split!r} of data set {name!r}", _table(rows, columns).schema.remove_metadata()


def _table(rows: Dataset, columns: Sequence[str]) -> pa.Table:
    selected = rows.select_columns(list(columns))
    return (selected.flatten_indices() if selected._indices is not None else selected).data.table


def _arrow_batches(rows: Dataset, columns: list[str]) -> Iterator[pa.Table]:
    arrow = rows.select_columns(columns).with_format("arrow")
    for start in range(0, len(rows), SCAN_ROWS):
        yield arrow[start : start + SCAN_ROWS]


def _array_sizes(array: pa.StructArray, files: NamedFiles) -> list[int]:
    """Return the sizes in bytes of images as `datasets` stores them: of the encoded bytes, or of the file; else 0."""
    sizes = pc.binary_length(pc.struct_field(array, "bytes")).to_pylist()
    paths = pc.struct_field(array, "path").to_pylist()
    return [
        size if size is not None else _file_size(files.stored(path)) if path else 0
        for size, path in zip(sizes, paths, strict=True)
    ]


def _file_size(stored: Stored) -> int:
    if not isinstance(stored, Path):
        return 0
    try:
        return os.stat(stored).st_size
    except (OSError, ValueError):
        return 0  # reading the file records the reason in the ledger
