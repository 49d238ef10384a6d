"""A data set cut to a budget equals the one that is prepared at it; merging takes the smaller number of planes."""

import numpy as np
import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.upkeep.cut import cut
from datasets_prep.upkeep.merge import merge
from tests.support.planes import plane_codec
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import load_manifest, load_provenance, verify


@pytest.fixture(scope="module")
def codec():
    return plane_codec(levels=2, max_rate=3.0)  # stride 4: 8 bytes a plane at 32 pixels


@pytest.fixture
def prepared(make_folder, codec, tmp_path):
    source = open_source(str(make_folder()))

    def make(name, **settings):
        fixed = {} if settings.get("geometry") == "ragged" else {"size": 32}
        prepare(source, codec, tmp_path / name, PrepareConfig(workers=0, shard_samples=7, **fixed, **settings))
        return tmp_path / name

    return make


def shards(folder):
    return {entry.name: (folder / entry.name).read_bytes() for entry in load_manifest(folder).shards}


@pytest.mark.parametrize("settings", [{}, {"views": "flip"}, {"geometry": "ragged"}], ids=["fixed", "views", "ragged"])
def test_a_cut_set_has_the_rows_of_the_one_prepared_at_its_budget(prepared, tmp_path, settings):
    whole = prepared("whole", **settings)
    smaller = prepared("smaller", bpp=0.75, **settings)
    made = cut(whole, tmp_path / "out", bpp=0.75)
    assert shards(tmp_path / "out") == shards(smaller)
    expected = load_manifest(smaller)
    assert (made.spec, made.latent_shape, made.views) == (expected.spec, expected.latent_shape, expected.views)
    assert all((made.histograms[split] == expected.histograms[split]).all() for split in ("train", "test"))
    assert made.splits == expected.splits
    assert verify(tmp_path / "out", full=True).problems == []
    assert load_provenance(tmp_path / "out")["edits"][-1]["num_planes"] == 12


def test_a_cut_set_reads_as_the_prefix_does(prepared, tmp_path):
    whole = prepared("whole")
    cut(whole, tmp_path / "out", num_bytes=100)  # 12 planes of 8 bytes
    ours, prefix = open_latents(tmp_path / "out"), open_latents(whole, bytes=100)
    assert ours.spec == prefix.spec
    np.testing.assert_array_equal(ours.gather(range(len(ours))).codes, prefix.gather(range(len(prefix))).codes)
    for block, layer in prefix.synthesis_bank.items():
        np.testing.assert_array_equal(ours.synthesis_bank[block].weight, layer.weight)
        np.testing.assert_array_equal(ours.synthesis_bank[block].bias, layer.bias)
    np.testing.assert_array_equal(ours.operators.hflip_weight, prefix.operators.hflip_weight)
    np.testing.assert_array_equal(ours.operators.vflip_bias, prefix.operators.vflip_bias)
    before = shards(tmp_path / "out")
    cut(whole, tmp_path / "out", num_bytes=100)  # finished
    assert shards(tmp_path / "out") == before
    again = cut(tmp_path / "out", tmp_path / "third", bpp=0.5)
    assert again.spec == prefix.spec.with_planes(8)


def test_cuts_that_are_refused(prepared, rgb_codec, make_folder, tmp_path):
    whole, ragged = prepared("whole", bpp=1.0), prepared("ragged", geometry="ragged")
    for budget in ({}, {"num_bytes": 64, "bpp": 1.0}):
        with pytest.raises(CallError, match=r"give the budget either in bytes a sample \(--bytes\) or in bits a pixel"):
            cut(whole, tmp_path / "out", **budget)
    with pytest.raises(CallError, match="1,000 bytes a sample; these latents take 8 to 128, 8 a plane"):
        cut(whole, tmp_path / "out", num_bytes=1000)
    with pytest.raises(CallError, match="bytes is 64 with geometry ragged, where samples differ in size"):
        cut(ragged, tmp_path / "out", num_bytes=64)
    prepare(open_source(str(make_folder("more"))), rgb_codec, tmp_path / "bytes", PrepareConfig(size=32, workers=0))
    with pytest.raises(CallError, match="codes that are stored as bytes, which have one size only"):
        cut(tmp_path / "bytes", tmp_path / "out", num_bytes=64)
    assert not (tmp_path / "out").exists()
    cut(whole, tmp_path / "out", num_bytes=64)
    with pytest.raises(CallError, match="holds another data set"):
        cut(whole, tmp_path / "out", num_bytes=80)


def test_merging_takes_the_smaller_number_of_planes(prepared, tmp_path):
    whole, smaller = prepared("whole"), prepared("smaller", bpp=0.75)
    for number, folders in enumerate([(whole, smaller), (smaller, whole)]):
        out = tmp_path / f"merged{number}"
        manifest = merge(folders, out, prefix=True)
        assert manifest.spec == load_manifest(smaller).spec
        assert verify(out, full=True).problems == []
        codes = open_latents(out).gather(range(24)).codes
        np.testing.assert_array_equal(codes[:12], codes[12:])
        assert open_latents(out).synthesis_bank


def test_extending_keeps_the_number_of_planes(make_folder, codec, tmp_path):
    root = make_folder(each=3)
    prepare(open_source(str(root)), codec, tmp_path / "out", PrepareConfig(size=32, workers=0, bpp=0.75))
    (root / "train" / "cat" / "new.png").write_bytes((root / "test" / "cat" / "00.png").read_bytes())
    source, more = open_source(str(root)), PrepareConfig(size=32, workers=0, extend=True)
    with pytest.raises(CallError, match="has 12 bit planes, but this call has 8; omit the budget, or `cdl cut` the"):
        prepare(source, codec, tmp_path / "out", PrepareConfig(size=32, workers=0, extend=True, bpp=0.5))
    manifest = prepare(source, codec, tmp_path / "out", more)
    assert manifest.spec == codec.spec.with_planes(12)
    assert manifest.splits["train"].num_samples == 7
    assert verify(tmp_path / "out", full=True).problems == []
