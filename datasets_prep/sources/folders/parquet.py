"""`parquet:PATTERN`: images in Parquet files, read in place, without a copy.

`datasets` would copy Parquet into Arrow files of the same size first. A column of a row group can only be decoded
from its beginning, so rows are decoded in runs of `RUN_ROWS`: a reader that goes through the rows in order decodes
each run once (87 MB of clothing photos in 0.1 s), with the memory of one run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import ClassLabel, Features

from datasets_prep.samples.arrow_columns import TableBuilder
from datasets_prep.samples.columns import Column, RowNumbers, TextColumn
from datasets_prep.samples.lazy_sequence import LazySequence
from datasets_prep.samples.locations import open_binary
from datasets_prep.samples.named_files import NamedFiles
from datasets_prep.samples.origin import Origin
from datasets_prep.samples.stored import Stored
from datasets_prep.sources.core.source import Listing, Source, SplitListing
from datasets_prep.sources.folders.file_lists import by_split, expand, folder_name
from datasets_prep.sources.folders.parquet_rows import rows_at_once
from datasets_prep.sources.hubs.common_schema import common_schema
from datasets_prep.sources.hubs.hf_columns import (
    ColumnLabels,
    ColumnOptions,
    image_column,
    require_column,
    split_columns,
    texts,
)
from datasets_prep.sources.hubs.huggingface import encoded, require_named_files
from walloc_cdl.addresses import is_url
from walloc_cdl.errors import CallError, one_line
from walloc_cdl.latents import UNKNOWN_LABEL

RUN_ROWS = 64
"""Rows decoded at once, or fewer if they are large (`rows_at_once`): a reader holds this many images in memory."""

BUFFER_BYTES = 2**20
"""Size of the pieces in which a column is read."""

SCAN_ROWS = 1024


def open_parquet(text: str) -> Source:
    """Open the source `parquet:…`; `text` is the pattern of the files, or the path of their folder, with options.

    If all file names begin with a split's name, such as `train-00000-of-00002.parquet`, the files keep these splits.
    """
    pattern, options = split_columns(text, "splits")
    return ParquetSource(expand(pattern, ".parquet", "parquet files"), options)


class ParquetSource(Source):
    """One sample per row; keys are row numbers, counted through the files of a split.

    Images are bytes, or a struct as `datasets` stores its `Image`; labels are as in `HuggingFaceSource`. Sizes are
    found by reading the images once; sizes in files at URLs are unknown, 0.

    Raises `CallError` for files that cannot be read, for files with different columns, and if it is ambiguous which
    column holds the images or the labels.
    """

    def __init__(self, paths: list[str], options: ColumnOptions | None = None) -> None:
        options = options or ColumnOptions()
        name, self._paths = folder_name(paths[0]), paths
        files_of = by_split(paths, options.splits)
        firsts = {split: _schema_of(files[0], options) for split, files in files_of.items()}
        absent = _absent_labels(name, firsts, options)
        split_of = {path: split for split, files in files_of.items() for path in files}
        labeled = next(path for path in paths if not absent[split_of[path]])
        schema = common_schema(
            (repr(path), _padded(_schema_of(path, options), absent[split_of[path]]))
            for path in [labeled, *(path for path in paths if path != labeled)]
        )
        features = _common_features(_schema_of(labeled, options), schema)
        image = image_column(name, features, options.image)
        _require_images(name, image, schema)
        for column in (*options.keep, *([options.group] if options.group else [])):
            require_column(name, features, column)
        labels = ColumnLabels(name, features, options)
        scans = {split: _Scan(split, files, schema, image, options, labels) for split, files in files_of.items()}
        if not any(scan.rows for scan in scans.values()):
            raise CallError(f"data set {name!r} has no rows; give one with images")
        names = labels.labels.names() if labels.labels is not None else None
        listings = {}
        for split, scan in scans.items():
            unknown = np.full(scan.rows, UNKNOWN_LABEL, np.int64) if not names else None
            listings[split] = scan.listing(labels.labels.close(split) if labels.labels and names else unknown)
        self._readers = {split: RowReader(scan.paths, scan.ends, image, options) for split, scan in scans.items()}
        kind = labels.labels.kind if labels.labels is not None and names else None
        super().__init__(name, Listing(listings, names, label_kind=kind, notes=labels.notes()))

    def read(self, split: str, index: int) -> Stored:
        """Return the encoded image, or its location if the file holds only that; b"" for a missing image."""
        return self._readers[split].read(index)

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """See `Source.references`."""
        return _Rows(self._readers[split], rows)

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return Origin("file", tuple(self._paths))


class RowReader:
    """Reads images by their row, counted through several files. Only the names of the files are pickled."""

    def __init__(self, paths: Sequence[str], ends: np.ndarray, column: str, options: ColumnOptions) -> None:
        """`ends`: int64, for each file the cumulative number of rows up to its end."""
        self._paths, self._ends, self._column, self._options = list(paths), ends, column, options
        self._stream: BinaryIO | None = None
        self._close()

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self._paths, "ends": self._ends, "column": self._column, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["paths"], state["ends"], state["column"], state["options"])

    def read(self, row: int) -> Stored:
        """Return one image; reading rows in order is fast."""
        if not 0 <= row < int(self._ends[-1]):
            raise IndexError(row)
        number = int(np.searchsorted(self._ends, row, side="right"))
        first = int(self._ends[number - 1]) if number else 0
        if number != self._open_file:
            self._close()
            self._open_file, self._stream = number, _open_stream(self._paths[number], self._options.public)
            self._file = _opened(self._paths[number], self._stream)
            groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
            self._group_ends = np.cumsum(groups)
            listed, found = int(self._ends[number]) - first, sum(groups)
            if found != listed:
                raise CallError(f"parquet file {self._paths[number]!r} has {found:,} rows, {listed:,} were listed")
        self._seek(row - first)
        return _image(self._run[row - first - self._run_start], named_files(self._paths[number], self._options))

    def only(self, rows: Sequence[int]) -> tuple[RowReader, list[int]]:
        """Return a reader of only those files that contain `rows`, and the numbers of the rows in it."""
        numbers = np.searchsorted(self._ends, np.asarray(rows, np.int64), side="right")
        needed = sorted({int(number) for number in numbers})
        sizes = np.diff(self._ends, prepend=0)
        ends = np.cumsum(sizes[needed])
        start = dict(zip(needed, ends - sizes[needed], strict=True))
        renumbered = [
            int(row) - int(self._ends[number] - sizes[number]) + int(start[int(number)])
            for row, number in zip(rows, numbers, strict=True)
        ]
        return RowReader([self._paths[number] for number in needed], ends, self._column, self._options), renumbered

    def _seek(self, row: int) -> None:
        """Decode runs until the run that contains a row of the open file."""
        if self._run_start <= row < self._run_start + len(self._run):
            return
        group = int(np.searchsorted(self._group_ends, row, side="right"))
        if group != self._group or row < self._run_start:
            self._group = group
            path = self._paths[self._open_file]
            rows = _rows_at_once(self._file, self._stream, path, [self._column], RUN_ROWS, group=group)
            self._runs = self._file.iter_batches(rows, row_groups=[group], columns=[self._column])
            self._run_start, self._run = int(self._group_ends[group - 1]) if group else 0, pa.nulls(0)
        try:
            while row >= self._run_start + len(self._run):
                self._run_start += len(self._run)
                self._run = next(self._runs).column(0)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self._paths[self._open_file], error) from error

    def _close(self) -> None:
        self._open_file, self._group = -1, -1
        self._file: pq.ParquetFile | None = None
        if self._stream is not None:
            self._stream.close()
        self._stream = None
        self._runs: Iterator[pa.RecordBatch] = iter(())
        self._group_ends = np.empty(0, np.int64)
        self._run_start, self._run = 0, pa.nulls(0)


class _Rows(LazySequence[Stored]):
    """Selected rows. An image is read when its item is accessed."""

    def __init__(self, reader: RowReader, rows: Sequence[int]) -> None:
        self._reader, self._rows = reader.only(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, position: int) -> Stored:
        return self._reader.read(self._rows[position])


class _Scan:
    """One pass over a split's files, which collects their rows, sizes, labels, groups and kept columns."""

    def __init__(
        self,
        split: str,
        paths: list[str],
        schema: pa.Schema,
        image: str,
        options: ColumnOptions,
        labels: ColumnLabels,
    ) -> None:
        self.paths, self.rows = paths, 0
        self._sizes, self._groups = Column(np.int64), TextColumn()
        self._options, self._image = options, image
        self._kept = TableBuilder(pa.schema([schema.field(column) for column in options.keep]))
        ends = []
        for path in paths:
            stream = _open_stream(path, options.public)
            file = _opened(path, stream)
            columns = [] if labels.are_missing(_features(file.schema_arrow), repr(path)) else labels.columns
            if columns:
                labels.require_same(_common_features(file.schema_arrow, schema), repr(path))
            else:
                labels.append_unknown(split, file.metadata.num_rows)
            sized = [] if is_url(path) else [image]
            wanted = [*dict.fromkeys([*sized, *columns, *options.keep, *filter(None, [options.group])])]
            if is_url(path):
                self._sizes.extend(np.zeros(file.metadata.num_rows, np.int64))
            files, row = named_files(path, options), 0
            for batch in _batches(file, stream, path, wanted):
                if columns:
                    labels.append(split, batch)
                if sized:
                    self._append_sizes(batch.column(image), files, repr(path), row)
                self._append(batch)
                row += len(batch)
            stream.close()
            self.rows += file.metadata.num_rows
            ends.append(self.rows)
        self.ends = np.array(ends, np.int64)

    def listing(self, labels: np.ndarray) -> SplitListing:
        """Return the listing of the split."""
        groups = self._groups.texts() if self._options.group else None
        columns = self._kept.table() if self._options.keep else None
        return SplitListing(RowNumbers(self.rows), labels, self._sizes.array(), groups, columns)

    def _append_sizes(self, values: pa.Array, files: NamedFiles, where: str, row: int) -> None:
        data = values
        if pa.types.is_struct(values.type):
            data = pc.struct_field(values, "bytes")
            if values.type.get_field_index("path") >= 0:
                require_named_files(values, files, where, row)
        if pa.types.is_binary_view(data.type):  # whose length pyarrow does not compute
            data = data.cast(pa.large_binary())
        self._sizes.extend(pc.fill_null(pc.binary_length(data), 0).to_numpy(zero_copy_only=False))

    def _append(self, batch: pa.RecordBatch) -> None:
        if self._options.group:
            for text in texts(batch.column(self._options.group)):
                self._groups.append(text)
        if self._options.keep:
            try:
                columns = [batch.column(field.name).cast(field.type) for field in self._kept.schema]
            except pa.ArrowException as error:
                raise CallError(
                    f"columns {', '.join(self._options.keep)}: {one_line(error)}; omit one of ?keep="
                ) from error
            self._kept.append(pa.record_batch(columns, schema=self._kept.schema))


def _batches(file: pq.ParquetFile, stream: BinaryIO, path: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if not columns:
        return
    rows = _rows_at_once(file, stream, path, columns, SCAN_ROWS)
    try:
        yield from file.iter_batches(rows, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def named_files(path: str, options: ColumnOptions) -> NamedFiles:
    """Return which files the rows of a Parquet file may name: those in its folder or at its URL's."""
    folder = path.rpartition("/")[0] if is_url(path) else os.path.dirname(os.path.abspath(path))
    return NamedFiles(folder, absolute=options.absolute, public=options.public)


def _open_stream(path: str, public: bool) -> BinaryIO:
    try:
        return open_binary(path, public=public)
    except OSError as error:
        raise _unreadable(path, error) from error


def _schema_of(path: str, options: ColumnOptions) -> pa.Schema:
    with _open_stream(path, options.public) as stream:
        return _opened(path, stream).schema_arrow


def _opened(path: str, stream: BinaryIO) -> pq.ParquetFile:
    """Open the file of a path, whose bytes `stream` has."""
    try:
        return pq.ParquetFile(stream, pre_buffer=False, buffer_size=BUFFER_BYTES)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _rows_at_once(
    file: pq.ParquetFile, stream: BinaryIO, path: str, columns: list[str], most: int, *, group: int | None = None
) -> int:
    try:
        return rows_at_once(file, stream, columns, most, group=group, only_first=is_url(path))
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> CallError:
    cause = one_line(error)
    return CallError(f"parquet file {path!r} cannot be read: {cause}; restore or omit it")


def _features(schema: pa.Schema) -> Features:
    """Return the features that `datasets` stored in the schema's metadata, or else those that follow from the types.

    `datasets` ignores the metadata of columns of another type; class numbers may have been stored in fewer bits.
    """
    try:
        features = Features.from_arrow_schema(schema)
        narrow = [field.name for field in schema if pa.types.is_integer(field.type) and field.type != pa.int64()]
        if narrow and schema.metadata:
            fields = [field.with_type(pa.int64()) if field.name in narrow else field for field in schema]
            wide = Features.from_arrow_schema(pa.schema(fields, schema.metadata))
            features.update({name: wide[name] for name in narrow if isinstance(wide[name], ClassLabel)})
        return features
    except (ValueError, TypeError, KeyError):
        return Features.from_arrow_schema(schema.remove_metadata())


def _absent_labels(name: str, firsts: dict[str, pa.Schema], options: ColumnOptions) -> dict[str, list[str]]:
    """Return for each split the columns of labels that it lacks: none, or all of them, as a test split may.

    `firsts`: for each split the schema of its first file.
    """
    every = {column: kind for schema in reversed(firsts.values()) for column, kind in _features(schema).items()}
    columns = ColumnLabels(name, Features(every), options).columns
    return {split: [] if {*columns} & {*schema.names} else columns for split, schema in firsts.items()}


def _padded(schema: pa.Schema, absent: list[str]) -> pa.Schema:
    """Return the schema with columns without values for those that are absent."""
    for column in absent:
        if column not in schema.names:
            schema = schema.append(pa.field(column, pa.null()))
    return schema


def _common_features(own: pa.Schema, common: pa.Schema) -> Features:
    """Return the features of a file, with those of the common schema for columns without values in the file."""
    features = _features(own)
    for name in common.names:
        kind = own.field(name).type
        if pa.types.is_null(kind) or (pa.types.is_list(kind) and pa.types.is_null(kind.value_type)):
            features[name] = _features(pa.schema([common.field(name)]))[name]
    return features


def _require_images(name: str, column: str, schema: pa.Schema) -> None:
    kind = schema.field(column).type
    inner = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner) or pa.types.is_binary_view(inner)):
        raise CallError(
            f"column {column!r} of data set {name!r} holds {kind}, not images; choose another with ?image=COLUMN"
        )


def _image(value: pa.Scalar, files: NamedFiles) -> Stored:
    plain = value.as_py()
    return encoded(plain, files) if isinstance(plain, dict) else plain or b""
