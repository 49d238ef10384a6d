"""Whatever goes through a source stops at samples that the system cannot read, as jobs do; damaged ones are skipped."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.codec_fit.fit_source import configure_fit, fit_to_source
from datasets_prep.codec_fit.source_signals import native_signals
from datasets_prep.forecast import forecast, forecast_extension
from datasets_prep.preview import contact_sheet
from datasets_prep.samples import content, locations
from datasets_prep.samples.stored import ReadFailure
from tests.support.pictures import picture
from tests.support.sounds import sound, write_sound
from walloc_cdl.cli.app import run
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.errors import JobError

CODEC = ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
SMALL = PrepareConfig(size=16, shard_samples=8, workers=0)
QUARANTINE = replace(SMALL, unreadable="quarantine")
ERRORS = [errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOENT]
LOST = "photos/train/dog/003.png"
DAMAGED = "photos/train/dog/001.png"


@pytest.fixture
def photos(tmp_path) -> Path:
    """Twelve photos of three classes, one damaged."""
    for number in range(12):
        folder = tmp_path / "photos/train" / ("cat", "dog", "emu")[number % 3 if number != 3 else 1]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, 40, 36).save(folder / f"{number:03d}.png")
    (tmp_path / DAMAGED).write_bytes(b"no image")
    return tmp_path / "photos"


def lose(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the system fail to read `LOST`; returns the beginning of the message that says so."""
    call = os.stat

    def failing(path: object, *arguments: object, **options: object) -> os.stat_result:
        if path == folder / LOST:
            raise OSError(number, os.strerror(number), str(path))
        return call(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", failing)
    reason = "no such file" if number == errno.ENOENT else f"cannot be read: {os.strerror(number)}"
    return f"sample 'train/dog/003.png' of split 'train': {reason}, although the source lists it"


@pytest.fixture(params=ERRORS, ids=errno.errorcode.get)
def lost(photos, tmp_path, monkeypatch, request) -> str:
    """See `lose`."""
    return lose(tmp_path, request.param, monkeypatch)


AGAIN = "; restore the source and run the same command again, or take it out of the source"
AGAIN_AS_JOB = (
    "; restore the source and run the same command again, or give `cdl prepare` --unreadable quarantine to go on "
    "without such samples"
)


def stopped(call: Callable[[], object]) -> str:
    with pytest.raises(JobError) as caught:
        call()
    return str(caught.value)


def test_fit(photos, lost):
    source = open_source(str(photos))
    config = configure_fit(source, channels=3, levels=2, sample_rate=None, name="c")
    assert stopped(lambda: fit_to_source(source, config)) == lost + AGAIN


def test_fit_on_the_command_line(photos, tmp_path, capsys, lost):
    out = tmp_path / "codec"
    assert run(["codec", "fit", f"imagefolder:{photos}", "--out", str(out), "--levels", "2"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"cdl: {lost}{AGAIN}"
    assert not out.exists()


def test_measurement(photos, capsys, lost):
    assert run(["codec", "eval", "--codec", "resize-rgb-16x", "--images", str(photos)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"cdl: {lost}{AGAIN}"


def test_forecasts(photos, lost):
    source = open_source(str(photos))
    assert stopped(lambda: forecast(source, CODEC, SMALL)) == lost + AGAIN_AS_JOB
    assert forecast(source, CODEC, QUARANTINE).num_bad == 2


def test_forecasts_of_extensions(photos, tmp_path, monkeypatch):
    (tmp_path / LOST).rename(tmp_path / "kept")
    prepare(open_source(str(photos)), CODEC, tmp_path / "set", SMALL)
    (tmp_path / "kept").rename(tmp_path / LOST)
    source, lost = open_source(str(photos)), lose(tmp_path, errno.EIO, monkeypatch)
    text = stopped(lambda: forecast_extension(source, CODEC, tmp_path / "set", replace(SMALL, extend=True)))
    assert text == lost + AGAIN_AS_JOB


def test_preview(photos, tmp_path, monkeypatch):
    source = open_source(str(photos))
    prepare(source, CODEC, tmp_path / "set", SMALL)
    lost = lose(tmp_path, errno.EIO, monkeypatch)
    assert stopped(lambda: contact_sheet(tmp_path / "set", source=source)) == lost + AGAIN


def test_preview_without_a_damaged_original(photos, tmp_path):
    prepare(open_source(str(photos)), CODEC, tmp_path / "set", SMALL)
    whole = contact_sheet(tmp_path / "set", source=open_source(str(photos)))
    (tmp_path / LOST).write_bytes(b"no image")
    assert contact_sheet(tmp_path / "set", source=open_source(str(photos))).size == whole.size


def test_damaged_samples_are_skipped_and_counted(photos):
    source = open_source(str(photos))
    config = configure_fit(source, channels=3, levels=2, sample_rate=None, name="c")
    _, fitted, num_skipped = fit_to_source(source, config)
    assert (fitted.num_signals, num_skipped) == (11, 1)
    assert forecast(source, CODEC, SMALL).num_bad == 1


def test_a_source_that_vanishes_while_a_codec_is_fitted(photos, tmp_path):
    source = open_source(str(photos))
    photos.rename(tmp_path / "kept")
    text = stopped(lambda: list(native_signals(source, 3, 4)))
    assert text == f"the folder '{photos}' is missing; restore it and run the same command again"


def test_clips(tmp_path):
    folder = tmp_path / "sounds/train/bird"
    folder.mkdir(parents=True)
    for number in range(3):
        write_sound(folder / f"{number}.wav", sound(number, 2000), 16000)
    (folder / "0.wav").write_bytes(b"no sound")
    source = open_source(f"audiofolder:{tmp_path / 'sounds'}")
    signals = native_signals(source, 1, 8, sample_rate=16000)
    assert (len(list(signals)), signals.num_skipped) == (2, 1)
    (folder / "1.wav").unlink()
    assert stopped(lambda: list(signals)).startswith("sample 'train/bird/1.wav' of split 'train': no such file, alth")


def test_arrays(tmp_path):
    (tmp_path / "cubes").mkdir()
    for number in range(3):
        np.save(tmp_path / f"cubes/{number}.npy", np.full((3, 8, 8), number, np.float32))
    signals = native_signals(open_source(f"npy:{tmp_path / 'cubes'}"), 3, 4)
    assert len(list(signals)) == 3
    (tmp_path / "cubes/1.npy").unlink()
    assert "1.npy' of split 'train': no such file, although the source lists it; restore" in stopped(
        lambda: list(signals)
    )


@pytest.mark.parametrize(("status", "failure"), [(404, ReadFailure.REFUSED), (503, ReadFailure.FAILED)])
def test_tables_of_urls(photos, tmp_path, monkeypatch, status, failure):
    """Dead ones are skipped and counted; a network that is down stops the fit."""
    data = (photos / "train/cat/000.png").read_bytes()

    def read_range(url: str, *_: object, **options: object) -> bytes:
        if 10 <= int(url.rpartition("/")[2]) < 80:
            raise locations.FetchError(f"HTTP status {status}", failure)
        return data

    monkeypatch.setattr(content, "read_range", read_range)
    (tmp_path / "table.csv").write_text("url\n" + "".join(f"http://host/{number}\n" for number in range(90)))
    signals = native_signals(open_source(f"csv:{tmp_path / 'table.csv'}"), 3, 4)
    if failure is ReadFailure.REFUSED:
        assert (len(list(signals)), signals.num_skipped) == (20, 70)
    else:
        assert stopped(lambda: list(signals)) == (
            "48 of the last 58 samples cannot be read, the last being sample 'http://host/57' of split 'train': cannot "
            "be fetched: HTTP status 503; the source is unavailable: restore it and run the same command again"
        )
