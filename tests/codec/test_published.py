"""Published checkpoints as PyPI `walloc` writes them, damaged files, and files with malicious pickles."""

import errno
import io
import json
import os
import pickle
import struct
import sys
import time
import zipfile

import pytest
import torch

from tests.support.walloc_reference import make_reference, signal_for
from walloc_cdl.codec import load_codec
from walloc_cdl.codec.io.published import load_published
from walloc_cdl.errors import CallError, DamagedError

IMAGE = {
    "channels": 3, "J": 2, "Ne": 32, "Nd": 32, "latent_dim": 6, "latent_bits": 8, "lightweight_encode": True,
}  # fmt: skip
AUDIO = {
    "channels": 2, "J": 3, "Ne": 16, "Nd": 16, "latent_dim": 8, "latent_bits": 8, "lightweight_encode": False,
    "post_filter": True,
}  # fmt: skip
BUILD = {
    "image": (lambda walloc: walloc.Codec2D(**IMAGE), IMAGE),
    "audio": (lambda walloc: walloc.Codec1D(**AUDIO), AUDIO),
    "linear": (lambda walloc: walloc.LinearCodec2D(3, 2, 6, 8), IMAGE),
    "residual": (lambda walloc: walloc.ResidualCodec2D(3, 2, 6, 8, 2), {**IMAGE, "num_stages": 2}),
}


class Config:
    """The class of pickled configurations in older checkpoints."""


def write_pair(folder, kind="image", **changes):
    """Write a checkpoint and its JSON as the package's training does; return the path and the reference codec."""
    build, fields = BUILD[kind]
    codec = make_reference(build)
    path = folder / f"{kind}.pth"
    torch.save({"model_state_dict": codec.state_dict(), "epoch": 3, "losses": [0.5, 0.25]}, path)
    path.with_suffix(".json").write_text(json.dumps({**fields, "learning_rate": 1e-4, **changes}))
    return path, codec


@pytest.mark.parametrize("kind", BUILD)
@torch.no_grad()
def test_a_pair_gives_the_codec_of_the_reference(kind, tmp_path):
    path, reference = write_pair(tmp_path, kind)
    loaded = load_codec(path)
    assert loaded.name == kind
    assert loaded.config.fit["file"] == path.name
    signal = signal_for(reference)
    assert (
        loaded(signal) - reference(signal)[0]
    ).abs().mean() < 1e-5  # the mean, since single codes may differ by rounding
    folder = tmp_path / "codec"
    loaded.save_pretrained(folder)
    again = load_codec(folder)
    assert again.spec == loaded.spec
    assert again.decoder_id() == loaded.decoder_id()
    assert again.state_dict().keys() == reference.state_dict().keys()


def test_the_configuration_inside_an_older_file_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Config, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Config", Config, raising=False)
    config = Config()
    vars(config).update(IMAGE)
    codec = make_reference(BUILD["image"][0])
    torch.save({"model_state_dict": codec.state_dict(), "config": config}, tmp_path / "old.pth")
    loaded = load_published(tmp_path / "old.pth")
    assert (loaded.spec.latent_channels, loaded.spec.stride, loaded.config.decoder_width) == (6, 4, 32)


def test_a_state_dict_alone_is_read_with_its_json(tmp_path):
    path, codec = write_pair(tmp_path)
    torch.save(codec.state_dict(), path)
    assert load_codec(path).spec.source_channels == 3
    path.with_suffix(".json").unlink()
    with pytest.raises(CallError, match=r"image.pth has no configuration; put image.json next to it"):
        load_codec(path)


def test_a_sample_rate_applies_to_audio_only(tmp_path):
    path, _ = write_pair(tmp_path, "audio")
    assert load_published(path, sample_rate=44_100).spec.sample_rate == 44_100
    image, _ = write_pair(tmp_path)
    with pytest.raises(CallError, match=r"a sample rate of 44100 for .*image.pth, which is a codec for images"):
        load_published(image, sample_rate=44_100)


class Attack:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, exec, eval, os.mkdir], ids=lambda function: function.__name__)
@pytest.mark.parametrize("where", ["state", "config", "whole", "legacy", "plain"])
def test_a_pickle_that_executes_code_is_refused_and_nothing_is_executed(function, where, tmp_path):
    path, codec = write_pair(tmp_path)
    mark = tmp_path / "mark"
    argument = {
        "system": f"touch {mark}",
        "exec": f"open({str(mark)!r}, 'w')",
        "eval": f"open({str(mark)!r}, 'w')",
        "mkdir": str(mark),
    }
    attack = Attack(function, argument[function.__name__])
    state = codec.state_dict()
    if where == "state":
        torch.save({"model_state_dict": {**state, "decoder.1.extra": attack}}, path)
    elif where == "config":
        torch.save({"model_state_dict": state, "config": attack}, path)
    elif where == "whole":
        torch.save(attack, path)
    elif where == "legacy":
        torch.save({"model_state_dict": state, "x": attack}, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(attack))
    with pytest.raises(DamagedError) as caught:
        load_codec(path)
    assert "\n" not in str(caught.value)
    if where in ("state", "config", "whole"):
        assert "which weights do not need and which could execute code; nothing was executed" in str(caught.value)
    else:
        assert "not a checkpoint of torch, or a truncated one" in str(caught.value)
    assert not mark.exists()
    pickle.loads(pickle.dumps(attack))
    assert mark.exists(), "the attack works without protection"


def rewrite(path, **changes):
    """Replace records of the archive, or remove them if None; return its path."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(records)).partition("/")[0]
    records |= {f"{folder}/{name.replace('__', '/')}": data for name, data in changes.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def pickled(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))


def test_damaged_files_are_refused_in_one_line(tmp_path):
    path, codec = write_pair(tmp_path)
    whole, state = path.read_bytes(), codec.state_dict()
    pickle_bytes = pickled(path)
    size = struct.pack("<i", state["encoder.0.weight"].numel())
    assert pickle_bytes.count(b"J" + size) == 1 or pickle_bytes.count(b"M" + size[:2]) >= 1

    def bomb():
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("image/data.pkl", bytes(200_000_000))

    def huge():
        data = pickle_bytes.replace(b"M" + size[:2], b"\x8a\x06" + (10**12).to_bytes(6, "little"), 1)
        assert data != pickle_bytes
        rewrite(path, **{"data.pkl": data})

    def expanded():
        torch.save({"model_state_dict": {**state, "encoder.0.bias": torch.zeros(1).expand(10**12)}}, path)

    cases = {
        "empty": (lambda: path.write_bytes(b""), "not a checkpoint of torch, or a truncated one"),
        "text": (lambda: path.write_text("hello\n" * 1000), "not a checkpoint of torch, or a truncated one"),
        "truncated": (
            lambda: path.write_bytes(whole[: len(whole) // 2]),
            "not a checkpoint of torch, or a truncated one",
        ),
        "a with_flipped_bit weight": (lambda: path.write_bytes(with_flipped_bit(whole)), "cannot be read"),
        "bomb": (bomb, "compressed or encrypted entries, which torch.save never writes"),
        "a tensor of 10^12 elements": (
            huge,
            r"declares 4,000,000,000,000 bytes and has|a tensor of 1,000,000,000,000 elements in",
        ),
        "an expanded tensor": (expanded, r"a tensor of 1,000,000,000,000 elements in a storage of 1;"),
        "no record": (lambda: rewrite(path, **{"data__0": None}), r"storage '0' declares \d+ bytes and has 0"),
        "no pickle": (lambda: rewrite(path, **{"data.pkl": None}), "a zip archive without data.pkl"),
        "pickle cut": (lambda: rewrite(path, **{"data.pkl": pickle_bytes[:-40]}), "its pickle cannot be read"),
        "big-endian": (lambda: rewrite(path, byteorder=b"big"), "written on a big-endian machine"),
        "no weights": (
            lambda: torch.save([1, 2], path),
            "holds no weights; expected a dictionary with model_state_dict",
        ),
        "a number": (lambda: torch.save({"model_state_dict": {"a": 3}}, path), "'a' is not a tensor"),
        "not finite": (
            lambda: save(path, state, "encoder.0.bias", torch.full((6,), torch.nan)),
            "encoder.0.bias in the checkpoint has values that are not finite",
        ),
        "another shape": (
            lambda: save(path, state, "encoder.0.bias", torch.zeros(7)),
            r"the checkpoint has \(7,\) for encoder.0.bias, expected \(6,\)",
        ),
        "one more": (lambda: save(path, state, "extra", torch.zeros(7)), r"has \(7,\) for extra, expected nothing"),
        "integers": (
            lambda: save(path, state, "encoder.0.bias", torch.zeros(6, dtype=torch.int64)),
            "encoder.0.bias in the checkpoint is of type torch.int64, expected floating point",
        ),
        "another wavelet": (
            lambda: save(path, state, "wt.h0_row", state["wt.h0_row"] * 2),
            "wt.h0_row in the checkpoint is not the filter of bior4.4",
        ),
        "another architecture": (
            lambda: torch.save(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, 2)).state_dict(), path),
            "so it has another architecture; give a checkpoint of WaLLoC",
        ),
    }
    for name, (damage, message) in cases.items():
        path.write_bytes(whole)
        damage()
        start = time.perf_counter()
        with pytest.raises(DamagedError, match=message) as caught:
            load_codec(path)
        assert "\n" not in str(caught.value), name
        assert len(str(caught.value)) < 500 + len(str(path)), name
        assert time.perf_counter() - start < 2, name
    path.write_bytes(whole)
    load_codec(path)


def with_flipped_bit(data):
    position = len(data) // 2
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def save(path, state, name, tensor):
    torch.save({"model_state_dict": {**state, name: tensor}}, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 10**9}, "1000000000 source channels; expected 1 to 65,536"),
        ({"channels": 60_000, "latent_dim": 900_000}, "the checkpoint has "),
        ({"J": "2"}, "'2' wavelet levels; expected 1 to 5"),
        ({"Nd": 64}, r"the checkpoint has \(32,\) for decoder.1.conv_in.bias, expected \(64,\)"),
        ({"Nd": 33}, "decoder_width 33 is not a multiple of 32"),
        ({"latent_bits": 16}, "16 bits a latent value; expected 2 to 8"),
        ({"lightweight_encode": False}, r"the checkpoint has \(6,\) for encoder.0.bias, expected nothing"),
        ({"lightweight_encode": 1}, "lightweight_encode 1; expected true or false"),
    ],
)
def test_a_configuration_that_does_not_match_is_refused_quickly(changes, message, tmp_path):
    path, _ = write_pair(tmp_path, **changes)
    start = time.perf_counter()
    with pytest.raises(DamagedError, match=message):
        load_codec(path)
    assert time.perf_counter() - start < 2


def test_missing_files_and_invalid_json_are_refused(tmp_path):
    with pytest.raises(CallError, match=r"none.pth: no such checkpoint; give a .pth file"):
        load_codec(tmp_path / "none.pth")
    path, _ = write_pair(tmp_path)
    with pytest.raises(CallError, match=r"other.json: no such file; give the checkpoint's .json"):
        load_published(path, tmp_path / "other.json")
    for text, message in (
        ("{", "not JSON"),
        ("[1]", "found a list, expected an object"),
        ("{}", "field 'channels' is"),
    ):
        path.with_suffix(".json").write_text(text)
        with pytest.raises(DamagedError, match=message):
            load_codec(path)


@pytest.mark.parametrize("method", ["__init__", "read"])
def test_a_file_that_the_system_cannot_read_is_not_reported_as_damaged(tmp_path, monkeypatch, method):
    path, _ = write_pair(tmp_path)

    def fail(number):
        def raise_it(*arguments):
            raise OSError(number, os.strerror(number))

        return raise_it

    monkeypatch.setattr(zipfile.ZipFile, method, fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output error") as caught:
        load_codec(path)
    assert caught.value.filename == str(path)
    monkeypatch.setattr(zipfile.ZipFile, method, fail(errno.EINVAL))
    with pytest.raises(DamagedError, match="an offset before the beginning of the file; get the file again"):
        load_codec(path)


def test_the_stand_in_class_does_not_remain_registered(tmp_path):
    path, _ = write_pair(tmp_path)
    before = set(torch.serialization.get_safe_globals())  # the order of the list is arbitrary
    load_codec(path)
    assert set(torch.serialization.get_safe_globals()) == before
    buffer = io.BytesIO()
    torch.save(Attack(os.getcwd), buffer)
    buffer.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(buffer, weights_only=True)
