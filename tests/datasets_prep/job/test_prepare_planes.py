"""Jobs with a codec that has bit planes: rows are stored, and a prefix of them is the data set of that budget."""

import numpy as np
import pytest
import torch
from PIL import Image

from datasets_prep.job.config import PrepareConfig
from datasets_prep.prepare_local import prepare
from datasets_prep.sources import open_source
from tests.support.planes import plane_codec
from walloc_cdl.codec import load_codec
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import load_manifest, open_shard, verify
from walloc_cdl.planes.rows import pack_rows

CONFIG = {"size": 24, "workers": 0, "shard_samples": 4}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Ten smooth photos in two classes."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(10):
        path = folder / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        coarse.resize((36, 30), Image.Resampling.BICUBIC).save(path)
    return folder


@pytest.fixture(scope="module")
def codec():
    return plane_codec()


@pytest.fixture(scope="module")
def whole(photos, codec, tmp_path_factory):
    """The data set of all planes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    prepare(open_source(str(photos)), codec, out, PrepareConfig(**CONFIG))
    return out


def test_rows_of_the_codecs_codes_are_stored(whole, codec):
    dataset = open_latents(whole)
    manifest = load_manifest(whole)
    assert verify(whole, full=True).problems == []
    assert manifest.spec == codec.spec
    assert {"codec/levels.safetensors", "codec/synthesis.safetensors"} <= manifest.files.keys()
    assert dataset.levels.bits == codec.level_tables.bits
    shard = open_shard(whole / manifest.shards[0].name, manifest.shards[0], manifest.layout)
    codes = dataset[[0, 1, 2, 3]].codes
    assert codes.shape == (4, codec.latent_channels, 6, 6)
    np.testing.assert_array_equal(shard.codes, pack_rows(codes.numpy(), codec.planes))
    assert dataset.codec.decode(codes).shape == (4, 3, 24, 24)


def test_a_prefix_is_the_data_set_of_that_budget(photos, codec, whole, tmp_path):
    num_planes = codec.spec.num_planes // 3
    prepare(open_source(str(photos)), codec.with_planes(num_planes), tmp_path / "out", PrepareConfig(**CONFIG))
    coarse, prefix = open_latents(tmp_path / "out"), open_latents(whole, num_planes=num_planes)
    assert verify(tmp_path / "out", full=True).problems == []
    assert coarse.spec == prefix.spec
    np.testing.assert_array_equal(coarse[range(10)[:]].codes, prefix[range(10)[:]].codes)
    manifest, stored = load_manifest(tmp_path / "out"), load_manifest(whole)
    for entry, larger in zip(manifest.shards, stored.shards, strict=True):
        rows = open_shard(tmp_path / "out" / entry.name, entry, manifest.layout).codes
        np.testing.assert_array_equal(
            rows, open_shard(whole / larger.name, larger, stored.layout).codes[:, : rows.shape[1]]
        )
    np.testing.assert_allclose(coarse.statistics.mean, prefix.statistics.mean)
    np.testing.assert_allclose(coarse.statistics.std, prefix.statistics.std)
    codes = prefix[[0, 1]].codes
    torch.testing.assert_close(coarse.codec.decode(codes), prefix.codec.decode(codes))


def test_another_budget_is_another_job(photos, codec, whole):
    with pytest.raises(CallError, match=r"holds a finished data set with codec\.num_planes"):
        prepare(open_source(str(photos)), codec.with_planes(4), whole, PrepareConfig(**CONFIG))


def test_the_synthesis_serves_every_prefix(whole):
    """Its pixels are those that the whole layer computes of values with the means of missing channels."""
    stored = open_latents(whole)
    prefix = stored.with_planes(5)
    assert prefix.spec.latent_channels < stored.spec.latent_channels
    codes = prefix[[0, 1]].codes
    values = prefix.codec.values(codes)[:, : stored.spec.latent_channels]
    for block, layer in stored.synthesis_bank.items():
        own = prefix.synthesis_bank[block]
        padded = torch.nn.functional.pad(values, (2,) * 4, mode="circular")
        expected = torch.nn.functional.conv2d(padded, torch.from_numpy(layer.weight), torch.from_numpy(layer.bias))
        found = torch.nn.functional.conv2d(
            padded[:, : prefix.spec.latent_channels], torch.from_numpy(own.weight), torch.from_numpy(own.bias)
        )
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_codec_given_by_folder_and_workers_make_the_same_bytes(photos, codec, whole, tmp_path):
    for name, data in codec.files().items():
        (tmp_path / name).write_bytes(data)
    out = tmp_path / "out"
    config = PrepareConfig(**{**CONFIG, "workers": 1})
    manifest = prepare(open_source(str(photos)), load_codec(str(tmp_path)), out, config)
    assert [entry.sha256 for entry in manifest.shards] == [entry.sha256 for entry in load_manifest(whole).shards]
