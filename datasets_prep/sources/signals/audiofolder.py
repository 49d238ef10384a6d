"""`audiofolder:PATH`: folders of sound files, and the same files cut into segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from datasets_prep.decode.audio import AudioPreparation, ClipInfo, read_clip_info, require_audio_packages
from datasets_prep.samples.stored import AudioSegment, BadSignalError, Stored
from datasets_prep.sources.core.derived import DerivedSource
from datasets_prep.sources.core.source import Listing, Source, SplitListing
from datasets_prep.sources.folders.local_folder import FileFolder, FileNoun
from walloc_cdl.errors import CallError

AUDIO_SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".wav"})


class AudioFolder(FileFolder):
    """Whole clips below a folder; see `FileFolder` for classes and splits.

    Raises `CallError` without the packages that decode audio.
    """

    kind = "audio"
    noun = FileNoun("a", "sound", "SOUND", AUDIO_SUFFIXES)

    def __init__(self, folder: str) -> None:
        require_audio_packages()
        super().__init__(folder)

    @cached_property
    def clip_infos(self) -> dict[tuple[str, int], ClipInfo]:
        """By split and index what the header of each clip says; clips whose header cannot be read are left out."""
        found = {}
        for split in self.split_names:
            for index in range(self.num_samples(split)):
                try:
                    found[split, index] = read_clip_info(self.read(split, index))
                except BadSignalError:
                    continue  # decoding it says why, in the ledger
        return found

    @cached_property
    def channels(self) -> int | None:
        """The channels that most clips have; None if no header can be read."""
        counts = Counter(info.channels for info in self.clip_infos.values())
        return counts.most_common(1)[0][0] if counts else None

    def sample_rate(self) -> int:
        """The rate that all clips share, in Hz; raises `CallError` where there are several or none."""
        counts = Counter(info.sample_rate for info in self.clip_infos.values())
        if len(counts) == 1:
            return next(iter(counts))
        found = " and ".join(f"{rate} Hz ({count} clips)" for rate, count in counts.most_common())
        raise CallError(
            f"the clips of {self.name} have {found or 'no readable header'}; choose one rate with --sample-rate"
        )


class SegmentedSource(DerivedSource):
    """The segments of each clip of a source, in order; keys are `CLIP#NUMBER`, and clips are groups.

    A clip whose header cannot be read, or that is too long to be decoded, is one sample, whose preparation says why.
    """

    def __init__(self, source: Source, preparation: AudioPreparation) -> None:
        self._starts: dict[str, list[tuple[int, int]]] = {}
        listings = {split: self._cut(source, split, preparation) for split in source.split_names}
        super().__init__(source, Listing(listings, source.class_names, source.strays))

    def read(self, split: str, index: int) -> Stored:
        """Where the segment lies."""
        clip, start = self._starts[split][index]
        return AudioSegment(self._source.read(split, clip), start)

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """See `Source.references`."""
        return [self.read(split, row) for row in rows]

    def _cut(self, source: Source, split: str, preparation: AudioPreparation) -> SplitListing:
        listing = source.listing.splits[split]
        clips: list[int] = []
        keys: list[str] = []
        self._starts[split] = places = []
        for index, key in enumerate(listing.keys):
            try:
                info = read_clip_info(source.read(split, index))
                info.require_decodable()  # a header may speak of so many samples that the segments fill the memory
                starts = preparation.starts(info.resampled_frames(preparation.sample_rate))
            except BadSignalError:
                starts = range(1)
            for number, start in enumerate(starts):
                places.append((index, start))
                keys.append(f"{key}#{number:05d}")
                clips.append(index)
        rows = np.array(clips, np.int64)
        return SplitListing(keys, listing.labels[rows], listing.num_bytes[rows], [listing.keys[row] for row in rows])
