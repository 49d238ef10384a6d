"""Jobs with a codec that has bit planes: rows are stored, and a prefix of them is the data set of that budget."""

import numpy as np
import pytest
import torch
from PIL import Image

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.upkeep.encode_again import RepairConfig
from datasets_prep.upkeep.extend import extend
from datasets_prep.upkeep.repair import repair
from tests.support.planes import plane_codec
from walloc_cdl.codec import load_codec
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.latents import load_manifest, open_shard, verify
from walloc_cdl.planes.rows import pack_rows, unpack_rows

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
    fitted = {f"codec/{name}.safetensors" for name in ("levels", "synthesis", "operators")}
    assert fitted <= manifest.files.keys()
    assert all((whole / "copy" / name).read_bytes() == (whole / name).read_bytes() for name in fitted)
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


def test_an_extension_stores_as_many_planes_as_the_data_set(photos, codec, whole, tmp_path):
    """The larger codec is read at the rate of the data set."""
    out, num_planes = tmp_path / "out", codec.spec.num_planes // 2
    few = PrepareConfig(**CONFIG, limit=4)
    prepare(open_source(str(photos)), codec.with_planes(num_planes), out, few)
    manifest = extend(open_source(str(photos)), codec, out, PrepareConfig(**CONFIG))
    assert (manifest.spec.num_planes, manifest.splits["train"].num_samples) == (num_planes, 10)
    assert verify(out, full=True).problems == []
    extended, prefix = open_latents(out), open_latents(whole, num_planes=num_planes)
    for key, row in zip(extended.keys(range(10)), range(10), strict=True):
        same = prefix.keys(range(10)).index(key)
        assert torch.equal(extended[row].codes, prefix[same].codes)


def test_damaged_shards_are_encoded_again(photos, codec, tmp_path):
    out = tmp_path / "out"
    manifest = prepare(open_source(str(photos)), codec.with_planes(20), out, PrepareConfig(**CONFIG))
    path = out / manifest.shards[1].name
    path.write_bytes(path.read_bytes()[:-40] + bytes(40))
    (out / "codec/levels.safetensors").unlink()
    assert len(verify(out, full=True).damaged_files) == 2
    repair(out, RepairConfig(source=open_source(str(photos)), workers=0))
    assert verify(out, full=True).problems == []


def test_ragged_samples_and_views_are_packed(photos, codec, tmp_path):
    prepare(open_source(str(photos)), codec, tmp_path / "ragged", PrepareConfig(geometry="ragged", workers=0))
    ragged = open_latents(tmp_path / "ragged")
    prefix = ragged.with_planes(9)
    assert verify(tmp_path / "ragged", full=True).problems == []
    whole = ragged[3].codes
    expected = unpack_rows(pack_rows(whole[None].numpy(), codec.planes), prefix.spec.planes, whole.shape[1:])
    np.testing.assert_array_equal(prefix[3].codes, expected[0])
    views = PrepareConfig(size=24, views="flip", workers=0)
    prepare(open_source(str(photos)), codec, tmp_path / "views", views)
    assert verify(tmp_path / "views", full=True).problems == []
    first, second = (open_latents(tmp_path / "views", view=view)[3].codes for view in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(open_latents(tmp_path / "views", view=1, num_planes=4)[3].codes, upper_bits(second, codec, 4))


def upper_bits(codes, codec, num_planes):
    """Codes of the first planes, by the reference."""
    planes = codec.spec.with_planes(num_planes).planes
    return torch.from_numpy(unpack_rows(pack_rows(codes[None].numpy(), codec.planes), planes, codes.shape[1:])[0])
