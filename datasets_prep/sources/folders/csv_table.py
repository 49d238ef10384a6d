"""`csv:PATH`: a table of image files or URLs, with their labels, splits and groups in further columns.

The table is untrusted; `NamedFiles` has the rules for the paths and URLs in it.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from datasets_prep.samples.arrow_columns import TableBuilder
from datasets_prep.samples.columns import CHUNK_ROWS, Column, TextColumn
from datasets_prep.samples.lazy_sequence import LazySequence
from datasets_prep.samples.locations import require_package
from datasets_prep.samples.named_files import NamedFiles
from datasets_prep.samples.origin import Origin
from datasets_prep.samples.stored import ReadFailure, Stored, read_failure
from datasets_prep.samples.text_files import open_text
from datasets_prep.samples.unique_names import has_repeats, name_hash
from datasets_prep.sources.core.label_kinds import ClassLabels, Labels, MultiLabels, Targets
from datasets_prep.sources.core.label_notes import all_unknown_note
from datasets_prep.sources.core.options import column_names, flag, split_options
from datasets_prep.sources.core.source import Listing, Source, SplitListing
from datasets_prep.sources.core.split_names import in_order, split_in_column
from walloc_cdl.addresses import WEB_SCHEMES, is_url, url_scheme
from walloc_cdl.errors import CallError, system_reason

OPTIONS = (
    "path",
    "label",
    "target",
    "separator",
    "split",
    "group",
    "key",
    "keep",
    "absolute",
    "public",
    "delimiter",
    "encoding",
)
PATH_NAMES = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "url")
"""Names of the column of files, searched if the options do not name it."""

MAX_SPLITS = 64


def open_csv(text: str) -> Source:
    """Open the source `csv:…`; `text` is the part after the colon."""
    path, options = split_options(text, OPTIONS)
    return CsvTable(Path(path), options)


class CsvTable(Source):
    """One sample per row. Paths are relative to the table's folder; files at URLs are fetched when they are decoded.

    Sizes of files at URLs and of missing files are unknown, 0, so that the fingerprint depends on their names only.
    Keys are the paths or URLs as written, or the column `key`; if keys repeat, `#LINE` is appended to all.

    Raises `CallError` for a missing table or column, a path that leaves the folder, and a URL of another scheme.
    """

    def __init__(self, table: Path, options: dict[str, str]) -> None:
        if not table.is_file():
            found = "is a folder" if table.is_dir() else "is not a regular file" if table.exists() else "does not exist"
            raise CallError(f"table {str(table)!r} {found}; give the path of a CSV file")
        self._table, self._folder = table, table.absolute().parent
        self._schemes: set[str] = set()
        self._files = NamedFiles(
            str(self._folder), absolute=flag(options, "absolute"), public=flag(options, "public"), noun="table"
        )
        rows = _rows(table, options.get("delimiter"), options.get("encoding"))
        header = next(rows, (0, []))[1]
        if not header:
            raise CallError(f"table {str(table)!r} has no column names; give them in its first line")
        columns = _Columns(table, header, options)
        self._splits: dict[str, _Split] = {}
        for line, row in rows:
            if row:
                self._append(columns, line, row)
        if not self._splits:
            raise CallError(f"table {str(table)!r} has no rows; give one with a line for each image")
        self._splits = {split: self._splits[split] for split in in_order(self._splits)}
        names = columns.labels.names() if columns.labels is not None else None
        listings = {
            split: rows.listing(columns.labels.close(split) if columns.labels is not None and names else None)
            for split, rows in self._splits.items()
        }
        kind = columns.labels.kind if columns.labels is not None and names else None
        super().__init__(table.stem, Listing(listings, names, label_kind=kind, notes=columns.label_notes()))

    def read(self, split: str, index: int) -> Stored:
        """Return the path of the file, or its URL."""
        return self._files.stored(self._splits[split].locations[index])

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return Origin("folder", (str(self._folder),))

    def _append(self, columns: _Columns, line: int, row: list[str]) -> None:
        where = f"{str(self._table)!r}, line {line}"
        if len(row) != columns.width:
            raise CallError(f"{where}: {len(row)} fields, where the first line has {columns.width}; repair the table")
        location = row[columns.path].strip()
        size = self._size(location, where)
        split = split_in_column(row[columns.split], where) if columns.split is not None else "train"
        if split not in self._splits:
            if len(self._splits) == MAX_SPLITS:
                raise CallError(
                    f"{where}: more than {MAX_SPLITS} splits, such as {split!r}; choose another column with ?split="
                )
            self._splits[split] = _Split(columns)
        columns.append_label(split, row)
        self._splits[split].append(location, size, line, row)

    def _size(self, location: str, where: str) -> int:
        """Return the size of a file in bytes, 0 if it is missing or at a URL.

        Raises `CallError` for a location that the table may not name.
        """
        self._files.require(location, lambda: where)
        if is_url(location):
            self._require_scheme(location)
            return 0
        try:
            return os.stat(self._folder / location).st_size
        except OSError as error:
            if read_failure(error) is ReadFailure.FAILED:
                raise CallError(f"{where}: path {location[:100]!r}: {system_reason(error)}; check the files") from error
            return 0  # reading the file records the reason in the ledger

    def _require_scheme(self, url: str) -> None:
        """Raise `CallError` here, not in a worker, if the package that a scheme needs is missing."""
        scheme = url_scheme(url)
        if scheme not in self._schemes:
            if scheme not in WEB_SCHEMES:
                require_package(url)
            self._schemes.add(scheme)


class _Columns:
    """The positions of the columns in a row."""

    def __init__(self, table: Path, header: list[str], options: dict[str, str]) -> None:
        self._shown, self.header = str(table), [name.strip() for name in header]
        self.width = len(header)
        if len(set(self.header)) != len(self.header):
            raise CallError(f"table {self._shown!r} has two columns with the same name; rename one of them")
        self.path = self._path_column(options.get("path"))
        self.split = self._optional(options, "split")
        self.group = self._optional(options, "group")
        self.key = self._optional(options, "key")
        self.kept = [self._position(name) for name in column_names(options, "keep") if name]
        self._separator = options.get("separator")
        self.labels: Labels | None = None
        if "label" in options and "target" in options:
            raise CallError("source options label and target; give one of them")
        self._label: list[int] = []
        if "target" in options:
            targets = column_names(options, "target") or ("",)
            self._label, self.labels = [self._position(name) for name in targets], Targets(targets)
        elif "label" in options or "label" in self.header:
            self._label = [self._position(options.get("label", "label"))]
            self.labels = MultiLabels() if self._separator else ClassLabels()
        elif self._separator:
            raise CallError(f"source option separator={self._separator!r} without a label column; give ?label=COLUMN")

    def append_label(self, split: str, row: list[str]) -> None:
        """Append the row's label to the labels of its split."""
        if isinstance(self.labels, Targets):
            self.labels.append(split, [row[position].strip() for position in self._label])
        elif self.labels is not None:
            text = row[self._label[0]].strip()
            items = [part.strip() for part in text.split(self._separator)] if self._separator else text
            self.labels.append(split, [item for item in items if item] if isinstance(items, list) else items)

    def label_notes(self) -> list[str]:
        """Return why there are no labels, if there are none, for users; call it after the last row."""
        if self.labels is None:
            return [
                f"no labels in table {self._shown!r}: it has no column called label; its columns are "
                f"{', '.join(self.header)[:400]}; name one with ?label=COLUMN (classes) or ?target=COLUMN (numbers)"
            ]
        if not self.labels.names():
            return [all_unknown_note(f"column {self.header[self._label[0]]!r} of table {self._shown!r}")]
        return []

    def _path_column(self, wanted: str | None) -> int:
        if wanted is not None:
            return self._position(wanted)
        found = [name for name in PATH_NAMES if name in self.header]
        if len(found) == 1:
            return self.header.index(found[0])
        raise CallError(
            f"table {self._shown!r} has the columns {', '.join(self.header)[:200]}; "
            "name the column of files or URLs with ?path=COLUMN"
        )

    def _optional(self, options: dict[str, str], option: str) -> int | None:
        """Return the column that an option names; without the option `split`, a column of that name is used."""
        if option not in options:
            return self.header.index("split") if option == "split" and "split" in self.header else None
        return self._position(options[option])

    def _position(self, name: str) -> int:
        if name not in self.header:
            known = ", ".join(self.header)[:200]
            raise CallError(f"table {self._shown!r} has no column {name!r}; its columns are {known}")
        return self.header.index(name)


class _Split:
    """The rows of one split, collected in columns."""

    def __init__(self, columns: _Columns) -> None:
        self._columns = columns
        self._locations, self._keys, self._groups = TextColumn(), TextColumn(), TextColumn()
        self._num_bytes, self._lines, self._hashes = Column(np.int64), Column(np.int64), Column(np.uint64)
        self._schema = pa.schema([(columns.header[position], pa.string()) for position in columns.kept])
        self._kept = TableBuilder(self._schema)
        self._pending: list[list[str]] = []

    def append(self, location: str, num_bytes: int, line: int, row: list[str]) -> None:
        columns = self._columns
        self._locations.append(_encode_text(location))
        key = location if columns.key is None else row[columns.key]
        self._hashes.append(name_hash(_encode_text(key)))
        if columns.key is not None:
            self._keys.append(_encode_text(key))
        if columns.group is not None:
            self._groups.append(_encode_text(row[columns.group]))
        self._num_bytes.append(num_bytes)
        self._lines.append(line)
        if columns.kept:
            self._pending.append([row[position] for position in columns.kept])
            if len(self._pending) == CHUNK_ROWS:
                self._flush()

    def listing(self, labels: np.ndarray | None) -> SplitListing:
        columns = self._columns
        self.locations = self._locations.texts()
        keys: Sequence[str] = self.locations if columns.key is None else self._keys.texts()
        if has_repeats(self._hashes.array()):
            keys = _LineKeys(keys, self._lines.array())
        self._flush()
        return SplitListing(
            keys,
            np.full(len(self.locations), -1, np.int64) if labels is None else labels,
            self._num_bytes.array(),
            self._groups.texts() if columns.group is not None else None,
            self._kept.table() if columns.kept else None,
        )

    def _flush(self) -> None:
        if self._pending:
            arrays = [pa.array(values, pa.string()) for values in zip(*self._pending, strict=True)]
            self._kept.append(pa.record_batch(arrays, schema=self._schema))
            self._pending = []


class _LineKeys(LazySequence[str]):
    """Keys of the form `KEY#LINE`."""

    def __init__(self, keys: Sequence[str], lines: np.ndarray) -> None:
        self._keys, self._lines = keys, lines

    def __len__(self) -> int:
        return len(self._keys)

    def item(self, position: int) -> str:
        return f"{self._keys[position]}#{self._lines[position]}"


def _rows(table: Path, delimiter: str | None, encoding: str | None) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the fields of each row; `encoding`: see `open_text`."""
    separator = {None: "\t" if table.suffix.lower() == ".tsv" else ",", "tab": "\t"}.get(delimiter, delimiter)
    if len(separator or "") != 1:
        raise CallError(f"source option delimiter={delimiter!r}; expected one character, or tab")
    with open_text(table, encoding, newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        try:
            for row in reader:
                if reader.line_num == 1 and any("\0" in name for name in row):
                    raise csv.Error("a zero byte in the first line, as in UTF-16 without a byte order mark")
                yield reader.line_num, row
        except (csv.Error, UnicodeError) as error:
            known = f"CSV in {encoding or 'UTF-8'}; see ?delimiter=, and ?encoding=, such as latin-1 or utf-16-le"
            raise CallError(f"{str(table)!r}, line {reader.line_num + 1}: {error}; expected {known}") from error


def _encode_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
