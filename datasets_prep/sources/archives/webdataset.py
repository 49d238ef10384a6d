"""`webdataset:PATTERN`: samples in plain tars, located by the headers alone, with random access.

A sample consists of adjacent members that share their stem, the path up to the first dot of the file name:
`000/cat.jpg` and `000/cat.cls`. See github.com/webdataset/webdataset for the convention.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from datasets_prep.samples.columns import Column, TextColumn, Texts
from datasets_prep.samples.lazy_sequence import LazySequence
from datasets_prep.samples.locations import as_os_errors, open_binary
from datasets_prep.samples.origin import Origin
from datasets_prep.samples.stored import FileSlice
from datasets_prep.samples.unique_names import has_repeats, name_hash
from datasets_prep.sources.archives.tars import DamagedTarError, TarMember, members, require_tar
from datasets_prep.sources.core.label_kinds import ClassLabels, Labels, MultiLabels
from datasets_prep.sources.core.options import optional_flag, split_options
from datasets_prep.sources.core.source import Listing, Source, SplitListing, Stray
from datasets_prep.sources.core.strays import StrayColumn
from datasets_prep.sources.folders.file_lists import by_split, expand, folder_name, short_names
from datasets_prep.sources.folders.imagefolder import IMAGE_SUFFIXES
from walloc_cdl.errors import CallError, system_reason
from walloc_cdl.json_files import parse_json

MAX_CLS_BYTES = 4096
MAX_JSON_BYTES = 2**20
"""Larger labels are refused, since labels are read into memory."""


def open_webdataset(text: str) -> Source:
    """Open the source `webdataset:…`; `text` is the part after the colon."""
    pattern, options = split_options(text, ("image", "label", "splits"))
    paths = expand(pattern, ".tar", "plain tar files")
    splits = optional_flag(options, "splits")
    return WebDataset(paths, image=options.get("image"), label=options.get("label"), splits=splits)


class WebDataset(Source):
    """The images of tars, each with the label in its `.cls` or in a field of its `.json`.

    Keys are the stems, preceded by the tar's name if stems repeat. The content of images is not read. The lost part of
    a damaged or truncated tar, and each sample without an image, becomes a stray with the reason.

    Raises `CallError` for a file that is not a plain tar, and if it is ambiguous which member is the image.
    """

    def __init__(
        self, paths: list[str], *, image: str | None = None, label: str | None = None, splits: bool | None = None
    ) -> None:
        """`image`: suffix of the members that are images; `label`: field of the `.json` that holds the label.

        `splits`: see `by_split`.
        """
        self._paths = paths
        files_of = by_split(paths, splits)
        names = dict(zip(paths, short_names(paths), strict=True))
        scan = _Scan(names, image and image.lower().lstrip("."), label)
        self._splits = {split: scan.split(split, files) for split, files in files_of.items()}
        class_names = scan.labels.names() if scan.labels is not None else None
        listings = {split: rows.listing(_labels(scan, split, len(rows))) for split, rows in self._splits.items()}
        strays = scan.strays.strays()
        if not any(map(len, self._splits.values())):
            first = f"; the first stray is {strays[0].key} ({strays[0].reason})" if len(strays) else ""
            raise CallError(f"no image in {paths[0]!r} and the other {len(paths) - 1} tars{first}; choose with ?image=")
        kind = scan.labels.kind if class_names is not None and scan.labels is not None else None
        super().__init__(folder_name(paths[0]), Listing(listings, class_names, strays, kind))

    def read(self, split: str, index: int) -> FileSlice:
        """Return the location of the image."""
        return self._splits[split].slice(index)

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return Origin("tar", tuple(self._paths))


def _labels(scan: _Scan, split: str, length: int) -> np.ndarray:
    if scan.labels is None or scan.labels.names() is None:
        return np.full(length, -1, np.int64)
    return scan.labels.close(split)


@dataclass
class _Sample:
    stem: bytes
    members: list[tuple[str, TarMember]] = field(default_factory=list)
    """Suffix in lower case, without the first dot, and member."""
    cut_off: bool = False
    """Whether the tar ends at this sample, so that some of its members, such as its label, may be missing."""


class _Scan:
    """One pass over all headers."""

    def __init__(self, names: dict[str, str], image: str | None, label: str | None) -> None:
        self.strays = StrayColumn()
        self.labels: Labels | None = None
        """None until the first label, which determines the kind of all labels."""
        self._names, self._image, self._field = names, image, label
        self._unlabeled: Counter[str] = Counter()
        """For each split, the number of samples before the first label."""

    def split(self, split: str, paths: list[str]) -> _Rows:
        """Return the samples of a split's tars, in order."""
        rows = _Rows(paths, [self._names[path] for path in paths])
        for number, path in enumerate(paths):
            try:
                with as_os_errors(), open_binary(path) as file:
                    require_tar(file, path)
                    self._tar(split, rows, number, file)
            except OSError as error:
                cause = system_reason(error)
                raise CallError(f"tar {path!r} cannot be read: {cause}; restore or omit it") from error
        rows.close()
        return rows

    def _tar(self, split: str, rows: _Rows, number: int, file: BinaryIO) -> None:
        name = self._names[rows.paths[number]]
        seen: set[bytes] = set()
        try:
            for sample in _samples(file):
                shown = f"{name}/{sample.stem.decode('utf-8', 'backslashreplace')}"
                image = self._image_of(sample, shown)
                if sample.stem in seen:
                    reason = "its stem occurs before in the same tar"
                elif sample.cut_off:
                    reason = "the last one of a tar that is cut off or damaged"
                elif image is None:
                    reason = "no image among its members"
                else:
                    seen.add(sample.stem)
                    rows.append(number, sample.stem, image)
                    self._label(split, sample, file, shown)
                    continue
                self.strays.append(Stray(split, shown, sum(m.num_bytes for _, m in sample.members), reason))
        except DamagedTarError as error:
            self.strays.append(Stray(split, name, 0, f"the tar {error}"))

    def _image_of(self, sample: _Sample, shown: str) -> TarMember | None:
        if self._image is not None:
            found = [member for suffix, member in sample.members if suffix == self._image]
            return found[0] if found else None
        images = [(suffix, member) for suffix, member in sample.members if _is_image(suffix)]
        if len(images) > 1:
            suffixes = " and ".join(suffix for suffix, _ in images)
            raise CallError(f"sample {shown!r} has several images, {suffixes}; choose with ?image={images[0][0]}")
        return images[0][1] if images else None

    def _label(self, split: str, sample: _Sample, file: BinaryIO, shown: str) -> None:
        suffix = "json" if self._field is not None else "cls"
        member = next((member for name, member in sample.members if name == suffix), None)
        max_bytes = MAX_JSON_BYTES if self._field is not None else MAX_CLS_BYTES
        value: object = None
        if member is not None:
            if member.num_bytes > max_bytes:
                raise CallError(f"{suffix} of {shown!r} has {member.num_bytes:,} bytes; expected at most {max_bytes:,}")
            position = file.tell()
            file.seek(member.offset)
            value = _parsed(file.read(member.num_bytes), self._field, f"{suffix} of sample {shown!r}")
            file.seek(position)
        if self.labels is None:
            if value is None:
                self._unlabeled[split] += 1
                return
            self.labels = MultiLabels() if isinstance(value, list) else ClassLabels()
            for before, count in self._unlabeled.items():
                for _ in range(count):
                    self.labels.append(before, None)
        if value is not None and isinstance(value, list) != isinstance(self.labels, MultiLabels):
            raise CallError(
                f"label of {shown!r} is {str(value)[:60]}, of another kind than those before; choose another field"
            )
        self.labels.append(split, value)


class _Rows:
    """The samples of one split, collected in columns."""

    def __init__(self, paths: list[str], names: list[str]) -> None:
        self.paths, self._names = paths, names
        self._stems, self._hashes = TextColumn(), Column(np.uint64)
        self._tars, self._offsets, self._num_bytes = Column(np.int32), Column(np.int64), Column(np.int64)

    def append(self, tar: int, stem: bytes, image: TarMember) -> None:
        self._stems.append(stem)
        self._hashes.append(name_hash(stem))
        self._tars.append(tar)
        self._offsets.append(image.offset)
        self._num_bytes.append(image.num_bytes)

    def close(self) -> None:
        self._texts = self._stems.texts()
        self._tar_of, self._offset_of = self._tars.array(), self._offsets.array()
        self._size_of = self._num_bytes.array()

    def __len__(self) -> int:
        return len(self._texts)

    def slice(self, index: int) -> FileSlice:
        return FileSlice(self.paths[self._tar_of[index]], int(self._offset_of[index]), int(self._size_of[index]))

    def listing(self, labels: np.ndarray) -> SplitListing:
        keys: Sequence[str] = self._texts
        if has_repeats(self._hashes.array()):
            keys = _TarKeys(self._texts, self._tar_of, self._names)
        return SplitListing(keys, labels, self._size_of)


class _TarKeys(LazySequence[str]):
    """Keys of the form `TAR/STEM`."""

    def __init__(self, stems: Texts, tars: np.ndarray, names: list[str]) -> None:
        self._stems, self._tars, self._names = stems, tars, names

    def __len__(self) -> int:
        return len(self._stems)

    def item(self, position: int) -> str:
        return f"{self._names[self._tars[position]]}/{self._stems[position]}"


def _samples(file: BinaryIO) -> Iterator[_Sample]:
    """Group adjacent members by stem. The last sample of a tar without an end mark is `cut_off`."""
    sample: _Sample | None = None
    try:
        for member in members(file):
            folder, slash, base = member.name.rpartition(b"/")
            stem, dot, suffix = base.partition(b".")
            if not stem or not dot or (stem.startswith(b"__") and stem.endswith(b"__")):
                continue  # hidden files, and names that the convention reserves
            path = folder + slash + stem
            if sample is None or sample.stem != path:
                if sample is not None:
                    yield sample
                sample = _Sample(path)
            sample.members.append((suffix.decode("utf-8", "backslashreplace").lower(), member))
    except DamagedTarError:
        if sample is not None:
            sample.cut_off = True
            yield sample
        raise
    if sample is not None:
        yield sample


def _is_image(suffix: str) -> bool:
    return f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES


def _parsed(data: bytes, wanted: str | None, where: str) -> str | int | list[str | int] | None:
    """Return the label in a `.cls`, or in a field of a `.json`."""
    try:
        if wanted is None:
            return data.decode("utf-8").strip()
        record = parse_json(data)
    except ValueError as error:
        raise CallError(f"{where} cannot be read: {str(error)[:100]}; choose another label, or repair it") from error
    value = record.get(wanted) if isinstance(record, dict) else None
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, bool) or not isinstance(item, (str, int, type(None))) for item in items):
        raise CallError(f"{where} has {str(value)[:60]!r} as {wanted!r}; expected an integer, a name or a list of them")
    return value
