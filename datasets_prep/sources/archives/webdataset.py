"""`webdataset:PATTERN`: samples in plain tars, located by the headers alone, with random access.

A sample consists of adjacent members that share their stem, the path up to the first dot of the file name:
`000/cat.jpg` and `000/cat.cls`. See github.com/webdataset/webdataset for the convention. Numbered images, such as
`cat.00.jpg` and `cat.01.jpg`, would be several images of one sample by it; here each is a sample.
"""

from __future__ import annotations

import re
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
from datasets_prep.sources.archives.tar_labels import TarLabels, is_image
from datasets_prep.sources.archives.tars import DamagedTarError, TarMember, members, require_tar
from datasets_prep.sources.core.options import flag, optional_flag, split_options
from datasets_prep.sources.core.source import Listing, Source, SplitListing, Stray
from datasets_prep.sources.core.strays import StrayColumn
from datasets_prep.sources.folders.file_lists import by_split, expand, folder_name, short_names
from walloc_cdl.addresses import is_url
from walloc_cdl.errors import CallError, system_reason
from walloc_cdl.retries import Deadline

SCAN_S = 3600.0
"""Time limit for reading the headers of a tar at a URL: 100,000 requests of 64 KiB, of which each takes 36 ms."""

_NUMBERED = re.compile(r"([0-9]+(?:\.[0-9]+)*)\.(.+)")


def open_webdataset(text: str) -> Source:
    """Open the source `webdataset:…`; `text` is the part after the colon."""
    pattern, options = split_options(text, ("image", "label", "dot", "public", "splits"))
    if options.get("dot", "last") != "last":
        raise CallError(f"source option dot={options['dot']!r}; expected last, or omit it for the first dot")
    paths = expand(pattern, ".tar", "plain tar files")
    return WebDataset(
        paths,
        image=options.get("image"),
        label=options.get("label"),
        last_dot="dot" in options,
        public=flag(options, "public"),
        splits=optional_flag(options, "splits"),
    )


class WebDataset(Source):
    """The images of tars, each with the label in its `.cls` or in a field of its `.json`.

    Keys are the stems, preceded by the tar's name if stems repeat. The content of images is not read. The lost part of
    a damaged or truncated tar, and each sample without an image, becomes a stray with the reason.

    Raises `CallError` for a file that is not a plain tar, and if it is ambiguous which member is the image.
    """

    def __init__(
        self,
        paths: list[str],
        *,
        image: str | None = None,
        label: str | None = None,
        last_dot: bool = False,
        public: bool = False,
        splits: bool | None = None,
    ) -> None:
        """`image`: suffix of the members that are images; `label`: field of the `.json` that holds the label.

        `last_dot`: whether stems end at the last dot of file names, instead of at the first;
        `public`: see `FileSlice.public`; `splits`: see `by_split`.
        """
        self._paths = paths
        files_of = by_split(paths, splits)
        names = dict(zip(paths, short_names(paths), strict=True))
        scan = _Scan(names, image and image.lower().lstrip("."), label, last_dot=last_dot, public=public)
        self._splits = {split: scan.split(split, files) for split, files in files_of.items()}
        labels = scan.labels
        listings = {split: rows.listing(labels.close(split, len(rows))) for split, rows in self._splits.items()}
        strays = scan.strays.strays()
        if not any(map(len, self._splits.values())):
            first = f"; the first stray is {strays[0].key} ({strays[0].reason})" if len(strays) else ""
            raise CallError(f"no image in {paths[0]!r} and the other {len(paths) - 1} tars{first}; choose with ?image=")
        listing = Listing(listings, labels.names(), strays, labels.kind, labels.notes())
        super().__init__(folder_name(paths[0]), listing)

    def read(self, split: str, index: int) -> FileSlice:
        """Return the location of the image."""
        return self._splits[split].slice(index)

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return Origin("tar", tuple(self._paths))


@dataclass
class _Sample:
    stem: bytes
    members: list[tuple[str, TarMember]] = field(default_factory=list)
    """Suffix in lower case, without the first dot, and member."""
    cut_off: bool = False
    """Whether the tar ends at this sample, so that some of its members, such as its label, may be missing."""


class _Scan:
    """One pass over all headers."""

    def __init__(
        self, names: dict[str, str], image: str | None, label: str | None, *, last_dot: bool, public: bool
    ) -> None:
        self.strays = StrayColumn()
        self.labels = TarLabels(label)
        self._names, self._image, self._last_dot, self._public = names, image, last_dot, public

    def split(self, split: str, paths: list[str]) -> _Rows:
        """Return the samples of a split's tars, in order."""
        rows = _Rows(paths, [self._names[path] for path in paths], public=self._public)
        for number, path in enumerate(paths):
            try:
                with as_os_errors(), open_binary(path, public=self._public) as file:
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
            for sample in self._samples(rows.paths[number], file):
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
                    self.labels.append(split, sample.members, image, file, shown)
                    continue
                self.labels.skip(sample.members, shown)
                self.strays.append(Stray(split, shown, sum(m.num_bytes for _, m in sample.members), reason))
        except DamagedTarError as error:
            self.strays.append(Stray(split, name, 0, f"the tar {error}"))

    def _samples(self, path: str, file: BinaryIO) -> Iterator[_Sample]:
        deadline = Deadline(SCAN_S) if is_url(path) else None
        for sample in _samples(file, deadline, last_dot=self._last_dot):
            if self._image is not None and "." in self._image:  # selects an image by its number, or by another word
                yield sample
            else:
                yield from _by_number(sample)

    def _image_of(self, sample: _Sample, shown: str) -> TarMember | None:
        if self._image is not None:
            found = [member for suffix, member in sample.members if suffix == self._image]
            return found[0] if found else None
        images = [(suffix, member) for suffix, member in sample.members if is_image(suffix)]
        if len(images) > 1:
            suffixes = " and ".join(suffix for suffix, _ in images[:5]) + " and others" * (len(images) > 5)
            raise CallError(
                f"sample {shown!r} has several images, {suffixes}; choose with ?image={images[0][0]}, or give "
                "?dot=last if each is a sample"
            )
        return images[0][1] if images else None


class _Rows:
    """The samples of one split, collected in columns."""

    def __init__(self, paths: list[str], names: list[str], *, public: bool) -> None:
        self.paths, self._names, self._public = paths, names, public
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
        path = self.paths[self._tar_of[index]]
        return FileSlice(path, int(self._offset_of[index]), int(self._size_of[index]), public=self._public)

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


def _samples(file: BinaryIO, deadline: Deadline | None, *, last_dot: bool) -> Iterator[_Sample]:
    """Group adjacent members by stem. The last sample of a tar without an end mark is `cut_off`."""
    sample: _Sample | None = None
    try:
        for member in members(file, deadline=deadline):
            folder, slash, base = member.name.rpartition(b"/")
            stem, dot, suffix = base.rpartition(b".") if last_dot else base.partition(b".")
            if not stem or not dot or base.startswith(b".") or (stem.startswith(b"__") and stem.endswith(b"__")):
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


def _by_number(sample: _Sample) -> list[_Sample]:
    """Return the samples of a group whose members all have a number before their suffix, such as `00.jpg`.

    If there are several numbers with an image, each number is a sample; if there is one number, it belongs to no
    suffix. Other groups are returned as they are.
    """
    parts = [_NUMBERED.fullmatch(suffix) for suffix, _ in sample.members]
    groups: dict[str, list[tuple[str, TarMember]]] = {}
    for part, (_, member) in zip(parts, sample.members, strict=True):
        if part is None:
            return [sample]
        groups.setdefault(part[1], []).append((part[2], member))
    if len(groups) == 1:
        return [_Sample(sample.stem, *groups.values(), cut_off=sample.cut_off)]
    if sum(any(is_image(suffix) for suffix, _ in group) for group in groups.values()) < 2:
        return [sample]
    found = [_Sample(sample.stem + b"." + number.encode(), group) for number, group in groups.items()]
    found[-1].cut_off = sample.cut_off
    return found
