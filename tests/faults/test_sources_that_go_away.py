"""A source that goes away for a while costs no sample: the job stops, and is resumed to the same bytes."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.samples import content, locations
from datasets_prep.samples.stored import ReadFailure
from datasets_prep.sources.core.source import Source
from tests.support.pictures import picture
from tests.support.sounds import sound, write_sound
from tests.support.trees import contents
from walloc_cdl.codec import ResizeCodec, ResizeCodec1D, ResizeConfig, ResizeConfig1D
from walloc_cdl.errors import CallError, CdlError, JobError
from walloc_cdl.latents import load_manifest

CODEC = ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
SMALL = PrepareConfig(size=16, shard_samples=4, workers=0)
QUARANTINE = replace(SMALL, unreadable="quarantine")
ERRORS = {
    "permission": errno.EACCES,
    "I/O error": errno.EIO,
    "stale handle": errno.ESTALE,
    "disconnected": errno.ENOTCONN,
    "too many files": errno.EMFILE,
}
MOVES = ["whole folder", "empty mount point", "one subfolder"]
KINDS = [*MOVES, *ERRORS, *(f"reading: {kind}" for kind in ERRORS)]


def photos_in(root: Path, count: int) -> Path:
    for number in range(count):
        folder = root / "train" / ("cat", "dog")[number * 2 // count]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, 20, 18).save(folder / f"{number:03d}.png")
    return root


@pytest.fixture
def photos(tmp_path) -> Path:
    """Twelve cats, then as many dogs."""
    return photos_in(tmp_path / "photos", 24)


class Away:
    """Makes a source go away, in one of several ways, and come back."""

    def __init__(self, root: Path, kind: str, patch: pytest.MonkeyPatch) -> None:
        self._root, self._kind, self._patch = root, kind, patch
        self._kept = root.with_name("kept")
        self.is_away = False

    def leave(self) -> None:
        if self.is_away:
            return
        self.is_away = True
        if self._kind == "whole folder":
            self._root.rename(self._kept)
        elif self._kind == "one subfolder":
            (self._root / "train/dog").rename(self._kept)
        elif self._kind == "empty mount point":
            self._root.rename(self._kept)
            self._root.mkdir()
        elif self._kind.startswith("reading: "):
            self._fail(Path, "read_bytes", ERRORS[self._kind.removeprefix("reading: ")])
        else:
            self._fail(os, "stat", ERRORS[self._kind])

    def come_back(self) -> None:
        self._patch.undo()
        if self._kind == "empty mount point":
            self._root.rmdir()
        if self._kept.exists():
            self._kept.rename(self._root / "train/dog" if self._kind == "one subfolder" else self._root)

    def _fail(self, owner: object, name: str, number: int) -> None:
        """Calls for files of the dogs fail."""
        call = getattr(owner, name)

        def failing(path: object, *arguments: object, **options: object) -> object:
            if isinstance(path, Path) and self._root / "train/dog" in path.parents:
                raise OSError(number, os.strerror(number), str(path))
            return call(path, *arguments, **options)

        self._patch.setattr(owner, name, failing)


def stopped(source: Source, out: Path, config: PrepareConfig, report: Callable[[object], None]) -> str:
    """Run a job that stops; returns its error. `report` is its progress."""
    with pytest.raises(JobError) as caught:
        prepare(source, CODEC, out, config, progress=report)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "workers"),
    [*((kind, 0) for kind in KINDS), *(pytest.param(kind, 1, marks=pytest.mark.slow) for kind in MOVES)],
)
def test_the_job_stops_and_is_resumed_without_a_loss(photos, tmp_path, monkeypatch, kind, workers):
    out, config = tmp_path / "out", replace(SMALL, workers=workers)
    prepare(open_source(str(photos)), CODEC, tmp_path / "undisturbed", config)
    away = Away(photos, kind, monkeypatch)
    source = open_source(str(photos))
    text = stopped(source, out, config, lambda state: away.leave() if list(out.glob("*.safetensors")) else None)
    if kind == "whole folder":
        assert text == f"the folder '{photos}' is missing; restore it and run the same command again to continue"
    else:
        assert "although the source lists it" in text
        assert "; restore the source and run the same command again to continue, or give `cdl prepare` --unrea" in text
        code = ERRORS.get(kind.removeprefix("reading: "))
        assert ("no such file" if code is None else os.strerror(code)) in text
    for _ in range(2):  # while it is away, nothing is lost, whatever is tried
        with pytest.raises(CdlError):
            prepare(open_source(str(photos)), CODEC, out, config)
    away.come_back()
    prepare(open_source(str(photos)), CODEC, out, config)
    assert contents(out) == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("kind", ["whole folder", "one subfolder", "reading: I/O error"])
def test_it_goes_away_when_all_shards_are_done(photos, tmp_path, monkeypatch, kind):
    """The synthesis would be fitted to other samples."""
    out = tmp_path / "out"
    prepare(open_source(str(photos)), CODEC, tmp_path / "undisturbed", SMALL)
    away = Away(photos, kind, monkeypatch)
    text = stopped(
        open_source(str(photos)), out, SMALL, lambda state: away.leave() if state.note.startswith("fitting") else None
    )
    assert ("is missing" if kind == "whole folder" else "was encoded, but cannot be read again") in text
    away.come_back()
    prepare(open_source(str(photos)), CODEC, out, SMALL)
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_a_job_without_the_lost_samples_if_told_so(photos, tmp_path):
    source = open_source(str(photos))
    for number in (3, 4):
        (photos / f"train/cat/{number:03d}.png").unlink()
    text = stopped(source, tmp_path / "out", SMALL, lambda state: None)
    assert text.startswith("sample 'train/cat/003.png' of split 'train': no such file, although the source lists it; ")
    notes: list[str] = []

    def lose_another(state: object) -> None:
        notes.append(state.note)
        if state.note.startswith("fitting"):
            (photos / "train/dog/020.png").unlink()

    manifest = prepare(source, CODEC, tmp_path / "out", QUARANTINE, progress=lose_another)
    assert manifest.ledger["reasons"] == {"no such file": 2}
    assert manifest.splits["train"].num_samples == 22
    assert any("1 of 22 samples for synthesis and flip rate can no longer be read" in note for note in notes)


def test_many_failures_one_after_another_stop_every_job(tmp_path):
    photos = photos_in(tmp_path / "photos", 140)
    source, config = open_source(str(photos)), replace(QUARANTINE, shard_samples=100)
    shutil.rmtree(photos / "train/dog")
    text = stopped(source, tmp_path / "out", config, lambda state: None)
    assert text == (
        "48 of the last 64 samples cannot be read, the last being sample 'train/dog/117.png' of split 'train': no such "
        "file; the source is unavailable: restore it and run the same command again to continue"
    )


def table_of_urls(folder: Path, count: int) -> Source:
    folder.mkdir()
    (folder / "table.csv").write_text("url\n" + "".join(f"http://host/{number}.png\n" for number in range(count)))
    return open_source(f"csv:{folder / 'table.csv'}")


@pytest.fixture
def server(tmp_path, monkeypatch) -> dict[int, Exception]:
    """A server of one picture under every number; those with an exception fail."""
    failures: dict[int, Exception] = {}
    data = (photos_in(tmp_path / "served", 2) / "train/cat/000.png").read_bytes()

    def read_range(url: str, *_: object, **options: object) -> bytes:
        if (failure := failures.get(int(url.rpartition("/")[2].removesuffix(".png")))) is not None:
            raise failure
        return data

    monkeypatch.setattr(content, "read_range", read_range)
    return failures


GONE = locations.FetchError("HTTP status 404", ReadFailure.REFUSED)
DOWN = locations.FetchError("HTTP status 503, 3 times", ReadFailure.FAILED)


def test_dead_urls_of_a_table_are_bad_samples_but_a_network_that_is_down_is_not(server, tmp_path):
    config = replace(SMALL, shard_samples=100)
    server.update(dict.fromkeys(range(10, 90), GONE) | dict.fromkeys((1, 3, 5), DOWN))
    manifest = prepare(table_of_urls(tmp_path / "dead", 100), CODEC, tmp_path / "out", config)
    assert manifest.ledger["reasons"] == {
        "cannot be fetched: HTTP status 404": 80,
        "cannot be fetched: HTTP status 503, 3 times": 3,
    }
    server.update(dict.fromkeys(range(10, 90), DOWN))
    text = stopped(table_of_urls(tmp_path / "down", 100), tmp_path / "out 2", config, lambda state: None)
    assert "48 of the last " in text
    assert "HTTP status 503" in text


def test_files_of_a_table_that_were_never_there_are_bad_samples(photos, tmp_path):
    rows = [f"train/cat/{number:03d}.png" for number in range(12)] + [f"gone/{number}.png" for number in range(70)]
    (photos / "table.csv").write_text("path\n" + "\n".join(rows))
    manifest = prepare(open_source(f"csv:{photos / 'table.csv'}"), CODEC, tmp_path / "out", SMALL)
    assert manifest.ledger["reasons"] == {"no such file": 70}


def failing_stat(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """`os.stat` of files with this name fails."""
    call = os.stat

    def stat(path: object, *arguments: object, **options: object) -> os.stat_result:
        if str(path).endswith(name):
            raise OSError(number, os.strerror(number), str(path))
        return call(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat)


def test_a_table_is_not_listed_by_a_system_that_fails(photos, monkeypatch):
    (photos / "table.csv").write_text("path\ntrain/cat/000.png\ntrain/cat/001.png\n")
    failing_stat(monkeypatch, "001.png", errno.ESTALE)
    with pytest.raises(CallError, match=rf"line 3: path 'train/cat/001.png': {os.strerror(errno.ESTALE)}"):
        open_source(f"csv:{photos / 'table.csv'}")


class _Entry:
    """An entry of a folder that the system cannot examine."""

    def __init__(self, entry: os.DirEntry, number: int) -> None:
        self.name, self.path, self._number = entry.name, entry.path, number

    def is_symlink(self) -> bool:
        return False

    def stat(self) -> os.stat_result:
        raise OSError(self._number, os.strerror(self._number), self.path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.EACCES])
def test_a_folder_is_not_listed_by_a_system_that_fails(photos, monkeypatch, number):
    """Its files would be strays."""
    scandir = os.scandir

    def entries(path: bytes) -> list:
        return [_Entry(each, number) if each.name == b"005.png" else each for each in scandir(path)]

    monkeypatch.setattr(os, "scandir", entries)
    with pytest.raises(CallError, match=rf"005.png' is listed in its folder, but {os.strerror(number)}; check"):
        open_source(str(photos))


def test_a_clip_whose_header_cannot_be_read_loses_no_segments(tmp_path):
    codec = ResizeCodec1D(ResizeConfig1D(channels=1, factor=4, sample_rate=16000, name="resize-mono-4x"))
    config = PrepareConfig(segment_s=0.01, workers=0)
    folder = tmp_path / "sounds/train/bird"
    folder.mkdir(parents=True)
    for number in range(2):
        write_sound(folder / f"{number}.wav", sound(number, 16 * 30), 16000)
    source, away = open_source(f"audiofolder:{tmp_path / 'sounds'}"), folder / "1.wav"
    away.rename(tmp_path / "kept.wav")
    with pytest.raises(JobError, match=r"clip 'train/bird/1.wav' of split 'train': no such file, although the source"):
        prepare(source, codec, tmp_path / "out", config)
    told = prepare(source, codec, tmp_path / "told", replace(config, unreadable="quarantine"))
    assert told.ledger["reasons"] == {"no such file": 1}
    (tmp_path / "kept.wav").rename(away)
    assert prepare(source, codec, tmp_path / "out", config).splits["train"].num_samples == 6
    assert load_manifest(tmp_path / "told").splits["train"].num_samples == 3


def test_arrays_are_not_measured_by_a_system_that_fails(tmp_path, monkeypatch):
    folder = tmp_path / "cubes"
    folder.mkdir()
    for number in range(2):
        np.save(folder / f"{number}.npy", np.full((3, 8, 8), number, np.float32))
    failing_stat(monkeypatch, "1.npy", errno.EIO)
    with pytest.raises(CallError, match=r"1.npy"):
        open_source(f"npy:{folder}")


def test_only_what_the_system_cannot_read_is_unreadable(photos):
    with pytest.raises(content.UnreadableError, match=r"^no such file$"):
        content.read_stored(photos / "gone.png")
    with pytest.raises(content.BadSignalError, match="not a regular file") as caught:
        content.read_stored(photos)
    assert not isinstance(caught.value, content.UnreadableError)
