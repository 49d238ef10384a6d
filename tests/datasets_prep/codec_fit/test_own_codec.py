"""`--codec own`: one fit to the train split before the job, kept for every call of it."""

import threading

import pytest

from datasets_prep import PrepareConfig, open_source, own_codec, prepare
from datasets_prep.codec_fit import own_codec as own_module
from datasets_prep.codec_fit.fit_inputs import FitInputs
from datasets_prep.codec_fit.fit_source import configure_fit, fit_to_source
from datasets_prep.codec_fit.own_codec import configure_own_fit
from tests.support.pictures import picture
from tests.support.planes import plane_codec
from tests.support.trees import contents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import load_manifest, load_provenance

CONFIG = PrepareConfig(size=32, bpp=1.5, workers=0, shard_samples=6)


class StopError(Exception):
    """Raised to interrupt a job."""


@pytest.fixture
def source(make_folder):
    return open_source(str(make_folder()))


@pytest.fixture
def fits(monkeypatch):
    """The calls of `fit_to_source` so far."""
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        return fit_to_source(*arguments, **options)

    monkeypatch.setattr(own_module, "fit_to_source", counted)
    return calls


def make(source, out, config=CONFIG, **options):
    codec = own_codec(source, out, config)
    return codec, prepare(source, codec, out, config, **options)


def stop(progress):
    if progress.done:
        raise StopError


def test_the_codec_is_fitted_to_the_train_split_as_the_job_prepares_it(source, tmp_path):
    codec = own_codec(source, tmp_path / "out", PrepareConfig(size=32, crop="pad", bpp=1.5))
    config = configure_fit(source, planes=True, levels=2, max_rate=6.0, name="own")
    expected, _, _ = fit_to_source(source, config, FitInputs((32,), {"crop": "pad"}), split="train", threads=1)
    assert codec.spec == expected.spec
    assert codec.name == "own"
    record = codec.config.fit["own"]
    assert (record["source"], record["split"], record["fingerprint"]) == ("photos", "train", source.fingerprint())
    assert (record["sizes"], record["crop"]) == ([32], "pad")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_job_says_what_its_codec_was_fitted_to(source, fits, tmp_path):
    codec, manifest = make(source, tmp_path / "out")
    assert manifest.spec == codec.spec.with_planes(24)
    assert load_provenance(tmp_path / "out")["own_codec"] == codec.config.fit["own"]
    assert not (tmp_path / "out" / "_work").exists()
    before = contents(tmp_path / "out")
    again, _ = make(source, tmp_path / "out")  # takes the codec of the data set
    assert again.spec == codec.spec
    assert len(fits) == 1
    assert contents(tmp_path / "out") == before
    other, _ = make(source, tmp_path / "other")  # the same source and settings give the same codec
    assert other.spec == codec.spec


def test_an_interrupted_job_goes_on_with_its_codec(source, fits, tmp_path):
    out = tmp_path / "out"
    make(source, tmp_path / "undisturbed")
    own_codec(source, out, CONFIG)  # killed before the plan was written
    with pytest.raises(StopError):
        make(source, out, progress=stop)
    assert (out / "_work" / "plan.json").is_file()
    make(source, out)
    assert len(fits) == 2
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_half_a_codec_is_fitted_again(source, fits, tmp_path):
    out = tmp_path / "out"
    own_codec(source, out, CONFIG)
    (out / "_work" / "own-codec" / "model.safetensors").unlink()
    own_codec(source, out, CONFIG)
    own_codec(source, out, PrepareConfig(size=32, bpp=1.5, crop="pad"))  # no plan uses the one that is there
    assert len(fits) == 3


def test_restart_fits_again(source, fits, tmp_path):
    make(source, tmp_path / "out")
    restart = PrepareConfig(size=16, bpp=3.0, workers=0, restart=True)
    _, manifest = make(source, tmp_path / "out", restart)
    assert len(fits) == 2
    assert manifest.preprocessing["size"] == 16


def test_slices_share_one_fit(source, fits, tmp_path):
    out, codecs = tmp_path / "out", {}

    def run(number):
        config = PrepareConfig(size=32, bpp=1.5, workers=0, shard_samples=6, shards=f"{number}/3")
        codecs[number] = own_codec(source, out, config)

    threads = [threading.Thread(target=run, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fits) == 1
    assert len({codec.spec for codec in codecs.values()}) == len({id(codec) for codec in codecs.values()}) - 2
    for number in (1, 2, 3):
        make(source, out, PrepareConfig(size=32, bpp=1.5, workers=0, shard_samples=6, shards=f"{number}/3"))
    _, manifest = make(source, out, PrepareConfig(size=32, bpp=1.5, workers=0, shard_samples=6, finish=True))
    assert len(fits) == 1
    make(source, tmp_path / "whole")
    assert manifest == load_manifest(tmp_path / "whole")


def test_extending_keeps_the_codec(make_folder, fits, tmp_path):
    root = make_folder()
    codec, _ = make(open_source(str(root)), tmp_path / "out")
    picture(99).save(root / "train" / "cat" / "zz.png")
    config = PrepareConfig(size=32, bpp=1.5, workers=0, shard_samples=6, extend=True)
    again, manifest = make(open_source(str(root)), tmp_path / "out", config)
    assert again.spec == codec.spec
    assert manifest.splits["train"].num_samples == 13
    assert len(fits) == 1


def test_what_is_refused(source, tmp_path):
    with pytest.raises(
        CallError, match=r"an own codec needs a budget: give bytes a sample \(--bytes\) or bits a pixel"
    ):
        own_codec(source, tmp_path / "out", PrepareConfig(size=32))
    with pytest.raises(CallError, match="bytes is 80 with geometry ragged"):
        own_codec(source, tmp_path / "out", PrepareConfig(bytes=80, geometry="ragged"))
    with pytest.raises(CallError, match="height 33 is not a multiple of the stride 2 of codec own"):
        own_codec(source, tmp_path / "out", PrepareConfig(size=33, bpp=1.5))
    with pytest.raises(
        CallError, match="a largest rate of 30 bits; expected more than 0 and at most 8 for each channel"
    ):
        own_codec(source, tmp_path / "out", PrepareConfig(size=32, bpp=30.0))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(CallError, match="which is neither a data set nor an unfinished job"):
        own_codec(source, tmp_path / "mine", CONFIG)
    assert not (tmp_path / "out").exists()


def test_data_sets_and_jobs_of_other_codecs(source, tmp_path):
    codec = plane_codec()
    prepare(source, codec, tmp_path / "done", CONFIG)
    with pytest.raises(CallError, match="holds a data set of codec planes, not of an own one; give another folder, or"):
        own_codec(source, tmp_path / "done", CONFIG)
    with pytest.raises(StopError):
        prepare(source, codec, tmp_path / "begun", CONFIG, progress=stop)
    with pytest.raises(CallError, match="holds an unfinished job with another codec than an own one"):
        own_codec(source, tmp_path / "begun", CONFIG)


def test_levels_follow_the_rate_and_the_amount_of_data(make_folder):
    many = open_source(str(make_folder("many", each=40, mode="L")))
    few = open_source(str(make_folder("few", splits=("train",), each=1, mode="L")))

    def levels(source, **settings):
        return configure_own_fit(source, PrepareConfig(**settings)).levels

    assert levels(many, size=64, bpp=1.5) == 3
    assert levels(many, size=64, bpp=0.25) == 4
    assert levels(many, size=64, bytes=64) == 4
    assert levels(many, size=72, bpp=0.25) == 3  # no multiple of 16
    assert levels(many, bpp=0.25, geometry="ragged") == 4
    assert levels(few, size=32, bpp=1.5) == 2
