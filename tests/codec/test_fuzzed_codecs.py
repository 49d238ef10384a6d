"""Thousands of damaged codecs give a clear error or the right codec, without crashes, in bounded time and memory."""

import json
import random
import time
import zipfile

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from tests.support.memory import PeakMemory
from tests.support.walloc_reference import walloc
from walloc_cdl.codec import WallocCodec1D, WallocConfig1D, codec_from_files, load_codec
from walloc_cdl.codec.io.published import load_published
from walloc_cdl.errors import CdlError

pytestmark = pytest.mark.slow

LIMIT_S = 2.0
FREE_BYTES = 64 * 2**20
VALUES = [
    0,
    -1,
    1,
    2,
    10**9,
    2**63,
    10**400,
    1.5,
    1e300,
    True,
    False,
    None,
    "",
    "8",
    "full",
    "x" * 10_000,
    [],
    {},
    [[1]],
]


def damage(data, generator):
    """Return the data with a few bytes flipped, removed, duplicated or replaced by typical problematic values."""
    data = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        position = generator.randrange(len(data)) if data else 0
        kind = generator.randrange(5)
        if kind == 0 and data:
            data[position] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del data[position : position + generator.choice([1, 2, 8, 64, 4096])]
        elif kind == 2:
            data[position:position] = data[position : position + generator.choice([1, 4, 32])]
        elif kind == 3:
            data[position : position + 8] = generator.choice([b"\xff" * 8, b"\x00" * 8, b"\x7f" * 8])
        else:
            data[position : position + 4] = generator.randbytes(4)
    return bytes(data)


def change_config(config, generator):
    """Return a JSON object with fields replaced, removed or added."""
    config = dict(config)
    for _ in range(generator.randint(1, 2)):
        name = generator.choice([*config, "stages", "padding", "encoder", "decoder_width", "surprise"])
        if generator.random() < 0.2:
            config.pop(name, None)
        else:
            config[name] = generator.choice(VALUES)
    return config


def outcome(load, is_valid, num_bytes):
    """Return whether `load` gives a codec, for which `is_valid` must hold, rather than an error of one line.

    Time and memory, for files of `num_bytes`, must stay within limits.
    """
    # The CPU time of this process, which does not depend on other work of the machine.
    start, codec, refusal = time.process_time(), None, "refused"
    with PeakMemory() as memory:
        try:
            codec = load()
        except CdlError as error:
            refusal = str(error)
    assert memory.num_bytes < FREE_BYTES + 16 * num_bytes
    assert time.process_time() - start < LIMIT_S
    assert "\n" not in refusal
    assert len(refusal) < 1000
    if codec is not None:
        assert is_valid(codec)
    return codec is not None


def weights_are_finite(codec):
    return all(torch.isfinite(tensor).all() for tensor in codec.state_dict().values())


@pytest.mark.parametrize("seed", range(4))
def test_codec_files(seed):
    generator = random.Random(seed)
    network = {"decoder": "network", "decoder_width": 8, "padding": 1, "post_filter": True}
    codecs = [load_codec("gray-16x"), load_codec("resize-mono-4x"), WallocCodec1D(WallocConfig1D(1, 2, 4, **network))]
    accepted = 0
    for _ in range(500):
        files = dict(generator.choice(codecs).files())
        target = generator.choice(["config", "json bytes", "tensor bytes", "tensors"])
        if target == "config":
            files["config.json"] = json.dumps(change_config(json.loads(files["config.json"]), generator)).encode()
        elif target == "json bytes":
            files["config.json"] = damage(files["config.json"], generator)
        elif target == "tensor bytes":
            files["model.safetensors"] = damage(files["model.safetensors"], generator)
        elif tensors := load_tensors(files["model.safetensors"]):
            name = generator.choice(list(tensors))
            change = generator.choice(
                [lambda t: t[:-1], lambda t: t[None], lambda t: t / 0, lambda t: t.long(), torch.Tensor.half]
            )
            files["model.safetensors"] = save_tensors({**tensors, name: change(tensors[name]).contiguous()})
        accepted += outcome(
            lambda files=files: codec_from_files(files, origin="fuzz"),
            weights_are_finite,
            sum(map(len, files.values())),
        )
    assert accepted < 300, "most damage is detected"


@pytest.mark.parametrize("seed", range(4))
def test_published_checkpoints(seed, tmp_path):
    generator = random.Random(seed)
    fields = {"channels": 1, "J": 2, "latent_dim": 4, "latent_bits": 8, "lightweight_encode": True, "Ne": 4, "Nd": 8}
    torch.manual_seed(0)
    codec = walloc.Codec1D(**fields, post_filter=True)
    path = tmp_path / "one.pth"
    torch.save({"model_state_dict": codec.state_dict()}, path)
    whole = path.read_bytes()
    expected = load_published_with(path, fields | {"post_filter": True})

    def is_right(found):
        state = expected.state_dict()
        return all(torch.equal(tensor, state[name]) for name, tensor in found.state_dict().items())

    accepted = 0
    # The pickle and the directory of the archive are the most relevant parts, but small: damage them separately.
    start = whole.find(b"data.pkl")
    for _ in range(500):
        config = fields | {"post_filter": True}
        where = generator.choice(["anywhere", "pickle", "directory", "config"])
        if where == "config":
            path.write_bytes(whole)
            config = change_config(config, generator)
        elif where == "pickle":
            path.write_bytes(whole[:start] + damage(whole[start : start + 3000], generator) + whole[start + 3000 :])
        elif where == "directory":
            path.write_bytes(whole[:-3000] + damage(whole[-3000:], generator))
        else:
            path.write_bytes(damage(whole, generator))
        accepted += outcome(lambda config=config: load_published_with(path, config), is_right, len(whole))
    assert accepted < 300


@pytest.mark.parametrize("seed", range(4))
def test_pickles_inside_an_intact_archive(seed, tmp_path):
    # The checksums of the archive detect most damage first, so here they are computed again after the damage.
    generator = random.Random(seed)
    codec = walloc.LinearCodec2D(1, 1, 2, 8)
    path = tmp_path / "two.pth"
    torch.save({"model_state_dict": codec.state_dict()}, path)
    fields = {"channels": 1, "J": 1, "latent_dim": 2, "latent_bits": 8}
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in records if name.endswith("data.pkl"))
    for _ in range(500):
        with zipfile.ZipFile(path, "w") as archive:
            for each, data in records.items():
                archive.writestr(each, damage(data, generator) if each == name else data)
        outcome(lambda: load_published_with(path, fields), weights_are_finite, path.stat().st_size)


def load_published_with(path, fields):
    path.with_suffix(".json").write_text(json.dumps(fields))
    return load_published(path)
