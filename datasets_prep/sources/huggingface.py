"""Whatever Hugging Face `datasets` opens, and parquet files through it; images stay encoded."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError

from datasets_prep.sources.base import UNKNOWN_LABEL, Listing, Source, SplitListing
from datasets_prep.sources.columns import Column, RowNumbers
from datasets_prep.sources.folders import SPLIT_FOLDERS
from walloc_cdl.errors import CallError

IMAGE_NAMES = ("image", "img", "jpg", "png")
LABEL_NAMES = ("label", "labels")
SCAN_ROWS = 1024


def open_hub(text: str) -> Source:
    """The data set `NAME[:CONFIG]`: of the hub, a local data set folder, or one written by `save_to_disk`."""
    name, columns = _columns(text)
    folder = Path(name)
    if folder.is_dir():
        saved = (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()
        return HuggingFaceSource(folder.resolve().name, _opened(name, None, from_disk=saved), **columns)
    if folder.is_absolute() or name.startswith((".", "~")):
        raise CallError(f"no data set folder {name!r}; give an existing folder, or the name of a data set of the hub")
    name, _, config = name.partition(":")
    return HuggingFaceSource(name, _opened(name, config or None), **columns)


def open_parquet(text: str) -> Source:
    """The parquet files that a glob pattern (or a folder's path) matches.

    When all of their names begin with a split's name, as in `train-00000-of-00002.parquet`, they keep these splits.
    """
    pattern, columns = _columns(text)
    if Path(pattern).is_dir():
        pattern = str(Path(pattern) / "*.parquet")
    paths = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
    if not paths:
        raise CallError(f"no file matches {pattern!r}; give the path or glob pattern of parquet files")
    by_split: dict[str, list[str]] = {}
    for path in paths:
        stem = Path(path).name.replace(".", "-").replace("_", "-").partition("-")[0]
        by_split.setdefault(SPLIT_FOLDERS.get(stem, ""), []).append(path)
    files = {"train": paths} if "" in by_split else by_split
    return HuggingFaceSource(
        Path(paths[0]).resolve().parent.name, _opened("parquet", None, data_files=files), **columns
    )


class HuggingFaceSource(Source):
    """Splits of a `datasets.DatasetDict`; a sample's key is its row number.

    Labels are those of a `ClassLabel` column, or the sorted values of a column called `label`.
    Raises `CallError` when it isn't clear which column holds the images or the labels.
    """

    def __init__(self, name: str, splits: DatasetDict, *, image: str | None = None, label: str | None = None) -> None:
        features = next(iter(splits.values())).features
        self._image = _image_column(name, features, image)
        label = _label_column(name, features, label)
        class_names, labels = _labels(splits, label)
        self._images = {split: _encoded_images(name, rows, self._image) for split, rows in splits.items()}
        listings = {
            split: SplitListing(
                keys=RowNumbers(len(images)),
                labels=labels.get(split, np.full(len(images), UNKNOWN_LABEL, np.int64)),
                num_bytes=_sizes(images, self._image),
            )
            for split, images in self._images.items()
        }
        super().__init__(name, Listing(listings, class_names))

    def read(self, split: str, index: int) -> bytes | Path:
        """The encoded image, or its path where the data set only holds that; b"" for a missing one."""
        stored = self._images[split][index][self._image] or {}
        if stored.get("bytes") is None and stored.get("path"):
            return Path(stored["path"])
        return stored.get("bytes") or b""


def _columns(text: str) -> tuple[str, dict[str, str]]:
    name, _, query = text.partition("?") if "=" in text.rpartition("?")[2] else (text, "", "")
    columns = dict(parse_qsl(query, keep_blank_values=True))
    if columns.keys() - {"image", "label"}:
        raise CallError(f"source option {query!r}; expected ?image=COLUMN&label=COLUMN")
    return name, columns


def _opened(name: str, config: str | None, *, from_disk: bool = False, **options: object) -> DatasetDict:
    try:
        found = load_from_disk(name) if from_disk else load_dataset(name, config, **options)
    except (DatasetsError, OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        cause = " ".join(str(error).split())[:300]
        raise CallError(
            f"data set {name!r} cannot be opened: {cause}; check the name, its config and the network"
        ) from error
    splits = found if isinstance(found, DatasetDict) else DatasetDict({"train": found})
    if not any(len(rows) for rows in splits.values()):
        raise CallError(f"data set {name!r} has no rows; give one with images")
    return splits


def _image_column(name: str, features: Features, wanted: str | None) -> str:
    columns = [column for column, feature in features.items() if _holds_images(column, feature)]
    if wanted is not None:
        if wanted not in features:
            raise CallError(f"data set {name!r} has no column {wanted!r}; its columns are {', '.join(features)}")
        return wanted
    preferred = [column for column in IMAGE_NAMES if column in columns]
    if preferred or len(columns) == 1:
        return (preferred or columns)[0]
    if not columns:
        raise CallError(
            f"no image column in data set {name!r}, only {', '.join(features)}; "
            "choose a data set of images, or name the column with ?image=COLUMN"
        )
    raise CallError(f"several image columns in data set {name!r}: {', '.join(columns)}; choose with ?image=COLUMN")


def _holds_images(column: str, feature: object) -> bool:
    """An `Image`, or, as in plain parquet files, bytes in a column that is called so."""
    if isinstance(feature, Image):
        return True
    if isinstance(feature, dict):
        return "bytes" in feature and column in IMAGE_NAMES
    return getattr(feature, "dtype", None) in ("binary", "large_binary") and column in IMAGE_NAMES


def _encoded_images(name: str, rows: Dataset, column: str) -> Dataset:
    try:
        return rows.select_columns([column]).cast_column(column, Image(decode=False))
    except (TypeError, ValueError, pa.ArrowException) as error:
        kind = rows.features[column]
        raise CallError(
            f"column {column!r} of data set {name!r} holds {kind}, not images; choose another with ?image=COLUMN"
        ) from error


def _label_column(name: str, features: Features, wanted: str | None) -> str | None:
    if wanted is not None:
        if wanted not in features:
            raise CallError(f"data set {name!r} has no column {wanted!r}; its columns are {', '.join(features)}")
        return wanted
    for column in LABEL_NAMES:
        if _scalar(features.get(column)):
            return column
    columns = [column for column, feature in features.items() if isinstance(feature, ClassLabel)]
    if len(columns) > 1:
        raise CallError(f"several label columns in data set {name!r}: {', '.join(columns)}; choose with ?label=COLUMN")
    return columns[0] if columns else None


def _scalar(feature: object) -> bool:
    dtype = getattr(feature, "dtype", "")
    return isinstance(feature, ClassLabel) or dtype in ("string", "large_string", "bool") or "int" in str(dtype)


def _labels(splits: DatasetDict, column: str | None) -> tuple[list[str] | None, dict[str, np.ndarray]]:
    """Class names, and for each split the labels, int64 (N,)."""
    if column is None:
        return None, {}
    feature = next(iter(splits.values())).features[column]
    if isinstance(feature, ClassLabel):
        names, values = list(feature.names), pa.array(range(feature.num_classes), pa.int64())
    else:
        found = {
            value
            for rows in splits.values()
            for array in _stored(rows, column)
            for value in pc.unique(array).to_pylist()
        }
        ordered = sorted(found - {None})
        names, values = [str(value) for value in ordered], pa.array(ordered)
    return names, {split: _numbered(rows, column, values) for split, rows in splits.items()}


def _numbered(rows: Dataset, column: str, values: pa.Array) -> np.ndarray:
    """int64 (N,): where in `values` each row's label stands."""
    labels = Column(np.int64)
    for array in _stored(rows, column):
        numbers = pc.fill_null(pc.index_in(array.cast(values.type), values), UNKNOWN_LABEL)
        labels.extend(numbers.to_numpy(zero_copy_only=False))
    return labels.array()


def _sizes(images: Dataset, column: str) -> np.ndarray:
    """int64 (N,): size of each encoded image, without reading it."""
    sizes = Column(np.int64)
    for array in _stored(images, column):
        sizes.extend(np.array(_array_sizes(array), np.int64))
    return sizes.array()


def _stored(rows: Dataset, column: str) -> Iterator[pa.Array]:
    arrow = rows.select_columns([column]).with_format("arrow")
    for start in range(0, len(rows), SCAN_ROWS):
        yield arrow[start : start + SCAN_ROWS][column].combine_chunks()


def _array_sizes(array: pa.StructArray) -> list[int]:
    sizes = pc.binary_length(pc.struct_field(array, "bytes")).to_pylist()
    paths = pc.struct_field(array, "path").to_pylist()
    return [
        size if size is not None else _file_size(path) if path else 0 for size, path in zip(sizes, paths, strict=True)
    ]


def _file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0  # reading it will say so in the ledger
