"""`audiofolder:PATH`: folders of audio files, and the same files cut into segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from datasets_prep.decode.audio import AudioPreparation, ClipInfo, read_clip_info, require_audio_packages
from datasets_prep.samples.stored import AudioSegment, BadSignalError, Stored
from datasets_prep.sources.core.derived import DerivedSource
from datasets_prep.sources.core.source import Listing, Source, SplitListing
from datasets_prep.sources.folders.catalog import FileKind
from datasets_prep.sources.folders.local_folder import FileFolder, folder_options
from walloc_cdl.errors import CallError

AUDIO_SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".wav"})


def open_sounds(text: str) -> AudioFolder:
    """Open the source `audiofolder:…`; `text` is the path of a folder, with the option `splits`."""
    folder, splits = folder_options(text)
    return AudioFolder(folder, splits=splits)


class AudioFolder(FileFolder):
    """The whole clips in a folder and its subfolders; see `FileFolder` for classes and splits.

    Raises `CallError` if the packages that decode audio are missing.
    """

    kind = "audio"
    file_kind = FileKind("a", "sound", "SOUND", AUDIO_SUFFIXES)

    def __init__(self, folder: str, *, splits: bool | None = None) -> None:
        require_audio_packages()
        super().__init__(folder, splits=splits)

    @cached_property
    def clip_infos(self) -> dict[tuple[str, int], ClipInfo]:
        """Maps split and index to the content of the clip's header; clips with unreadable headers are omitted."""
        found = {}
        for split in self.split_names:
            for index in range(self.num_samples(split)):
                try:
                    found[split, index] = read_clip_info(self.read(split, index))
                except BadSignalError:
                    continue  # decoding the clip records the reason in the ledger
        return found

    @cached_property
    def channels(self) -> int | None:
        """The most frequent channel count; None if no header can be read."""
        counts = Counter(info.channels for info in self.clip_infos.values())
        return counts.most_common(1)[0][0] if counts else None

    def sample_rate(self) -> int:
        """Return the sample rate that all clips share, in Hz; raises `CallError` for different rates, and for none."""
        counts = Counter(info.sample_rate for info in self.clip_infos.values())
        if len(counts) == 1:
            return next(iter(counts))
        found = " and ".join(f"{rate} Hz ({count} clips)" for rate, count in counts.most_common())
        raise CallError(
            f"the clips of {self.name} have {found or 'no readable header'}; choose one rate with --sample-rate"
        )


class SegmentedSource(DerivedSource):
    """The segments of each clip of a source, in order; keys are `CLIP#NUMBER`, and each clip is a group.

    A clip with an unreadable header, or one that is too long to be decoded, counts as one sample, whose preparation
    records the reason.
    """

    def __init__(self, source: Source, preparation: AudioPreparation) -> None:
        self._starts: dict[str, list[tuple[int, int]]] = {}
        listings = {split: self._cut(source, split, preparation) for split in source.split_names}
        super().__init__(source, Listing(listings, source.class_names, source.strays))

    def read(self, split: str, index: int) -> Stored:
        """Return the location of the segment."""
        clip, start = self._starts[split][index]
        return AudioSegment(self._source.read(split, clip), start)

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """See `Source.references`."""
        return [self.read(split, row) for row in rows]

    def _cut(self, source: Source, split: str, preparation: AudioPreparation) -> SplitListing:
        listing = source.listing.splits[split]
        clips: list[int] = []
        keys: list[str] = []
        self._starts[split] = segments = []
        for index, key in enumerate(listing.keys):
            try:
                info = read_clip_info(source.read(split, index))
                # a header can claim so many samples that the list of segments fills memory
                info.require_decodable(preparation.sample_rate, preparation.channels)
                starts = preparation.starts(info.resampled_frames(preparation.sample_rate))
            except BadSignalError:
                starts = range(1)
            for number, start in enumerate(starts):
                segments.append((index, start))
                keys.append(f"{key}#{number:05d}")
                clips.append(index)
        rows = np.array(clips, np.int64)
        return SplitListing(keys, listing.labels[rows], listing.num_bytes[rows], [listing.keys[row] for row in rows])
