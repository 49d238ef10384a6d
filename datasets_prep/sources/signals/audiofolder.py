"""`audiofolder:PATH`: folders of audio files, and the same files cut into segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from datasets_prep.decode.audio import AudioPreparation, ClipInfo, read_clip_info, require_audio_packages
from datasets_prep.samples.stored import AudioSegment, BadSignalError, Stored, UnreadableError, UnusableSample
from datasets_prep.sources.core.derived import DerivedSource
from datasets_prep.sources.core.source import Listing, Presence, Source, SplitListing
from datasets_prep.sources.folders.catalog import FileKind
from datasets_prep.sources.folders.local_folder import FileFolder, folder_options
from datasets_prep.sources.signals.sound_notes import ClipNotes
from walloc_cdl.errors import CallError, JobError

AUDIO_TYPES = "aif aifc aiff au caf flac mp3 oga ogg opus rf64 snd w64 wav"
AUDIO_SUFFIXES = frozenset(f".{name}" for name in AUDIO_TYPES.split())


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
    records the reason. So does a clip that the system cannot read, if `skip_unreadable`; otherwise it raises
    `JobError`, since its segments would be lost.
    """

    def __init__(self, source: Source, preparation: AudioPreparation, *, skip_unreadable: bool = False) -> None:
        self.clip_notes = ClipNotes(preparation)
        self._starts: dict[str, list[tuple[int, int]]] = {}
        self._unreadable: dict[tuple[str, int], UnusableSample] = {}
        self._skip_unreadable = skip_unreadable
        listings = {split: self._cut(source, split, preparation) for split in source.split_names}
        super().__init__(source, Listing(listings, source.class_names, source.strays, notes=source.notes))

    def read(self, split: str, index: int) -> Stored:
        """Return the location of the segment."""
        clip, start = self._starts[split][index]
        if (unusable := self._unreadable.get((split, clip))) is not None:
            return unusable
        return AudioSegment(self._source.read(split, clip), start)

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """See `Source.references`."""
        return [self.read(split, row) for row in rows]

    def _skipped(self, error: UnreadableError, key: str, split: str) -> UnusableSample:
        if not self._skip_unreadable:
            raise JobError(
                f"clip {key!r} of split {split!r}: {error}, although the source lists it; restore it and run "
                "the same command again, or add --unreadable quarantine to go on without such clips"
            ) from error
        return UnusableSample.from_error(error)

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
                self.clip_notes.add(info, starts)
            except BadSignalError as error:
                starts = range(1)
                if isinstance(error, UnreadableError) and source.presence(split, index) is Presence.FOUND:
                    self._unreadable[split, index] = self._skipped(error, key, split)
            for number, start in enumerate(starts):
                segments.append((index, start))
                keys.append(f"{key}#{number:05d}")
                clips.append(index)
        rows = np.array(clips, np.int64)
        return SplitListing(keys, listing.labels[rows], listing.num_bytes[rows], [listing.keys[row] for row in rows])
