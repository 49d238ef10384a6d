"""Codec files: the ids that data sets depend on, untrusted configurations, and the imports of loading a codec."""

import json
import subprocess
import sys
import time

import pytest

from walloc_cdl.codec import codec_from_files, load_codec
from walloc_cdl.codec.io.zoo import ZOO
from walloc_cdl.errors import DamagedError

# A data set of one of these codecs remains readable only if the id of the codec does not change.
PINNED = {
    "gray-16x": (
        "1387e2cec91dd35d935424ba1a3d3f1f3f1a5d0a03678b86dba7d3329039d085",
        "7a8309c96f196b202fd524ba67c008f762caabca7ca479ee8bac149a4beb690a",
    ),
    "gray-4x": (
        "06ba54b49cf0d45cc2c48695d4165c3d5c1a40cf40ede044adbab6a1ed64a49a",
        "177de924f60ddc3621d6957aee35f20f9d63104a50fa8960356e94cf39c86c17",
    ),
    "rgb-16x": (
        "974278d0e0a450cfa737157b87b55930d1424172e33092c6391f045368051401",
        "4d6d2bb6421ec5425f0d313340e14fe7e4c6503ff8767995f3ef9fe771bac283",
    ),
    "rgb-4x": (
        "662a4f9df48069a08a1f6519195d0d2212f536f7c28b69c0ceddc45f9f9d63b7",
        "573b5d6638840576cd2b81a87f46cbf5764c5236dc00f0c078f9c69def11c88e",
    ),
    "resize-rgb-16x": (
        "ad40d4791b549f36ce65e15afe6885c1f514d003c41ac8f51f501f01cdb08b0f",
        "76b84497192c392604faae246deff7c6a71620464ab2c4e954ffa9004194a88d",
    ),
    "resize-gray-4x": (
        "e79e5f9ed0def1f773f877a223fcd3bfcd31812d683e7d4abf7a8d36d5c9465c",
        "76b84497192c392604faae246deff7c6a71620464ab2c4e954ffa9004194a88d",
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_codec_ids_never_change(name):
    codec = load_codec(name)
    assert (codec.spec.codec_id, codec.decoder_id()) == PINNED[name]


@pytest.mark.parametrize("name", [name for name in PINNED if "resize" not in name])
def test_shipped_files_are_written_again_byte_for_byte(name):
    for file, data in load_codec(name).files().items():
        assert (ZOO / name / file).read_bytes() == data


def with_config(codec, **changes):
    files = codec.files()
    config = json.loads(files["config.json"]) | changes
    return files | {"config.json": json.dumps(config).encode()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 10**9}, "1000000000 source channels; expected 1 to 65,536"),
        ({"channels": 10**400}, r"the integer 10+… exceeds 64 bits"),
        (
            {"channels": 65_536, "levels": 5, "latent_channels": 60_000_000},
            r"has \(192,\) for decoder.1.bias, expected \(67108864,\)",
        ),
        ({"decoder": "network", "decoder_width": 65_536}, "model.safetensors has .* expected nothing"),
        ({"encoder": "full", "encoder_width": 65_536}, "model.safetensors has .* expected nothing"),
        ({"channels": [3]}, "a list source channels; expected"),
        ({"levels": 3.0}, "3.0 wavelet levels; expected 1 to 5"),
        ({"name": 7}, "a codec called 7; expected"),
        ({"fit": []}, "fit a list; expected a JSON object"),
        ({"fit": {"x": "y" * 70_000}}, r"fit of 70,\d+ bytes; expected at most 65,536"),
        ({"decoder": "netwerk"}, "decoder 'netwerk'; expected 'linear' or 'network'"),
        ({"format_version": 2}, "not the configuration of a codec of format version 1"),
        ({"format_version": True}, "not the configuration of a codec of format version 1"),
        ({"type": ["walloc-2d"]}, "codec type .*; expected one of"),
        ({"type": "walloc-1d"}, "has .* expected"),
        ({"stages": 2}, r"missing or unknown fields \['stages'\]"),
    ],
)
def test_untrusted_configurations_are_refused_quickly_and_in_one_line(changes, message):
    files = with_config(load_codec("rgb-16x"), **changes)
    start = time.perf_counter()
    with pytest.raises(DamagedError, match=message) as caught:
        codec_from_files(files, origin="codec")
    assert time.perf_counter() - start < 2
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_json_that_overflows_or_repeats_itself_is_refused():
    files = load_codec("rgb-16x").files()
    config = files["config.json"]
    for damaged in (
        config.replace(b'"bits": 8', b'"bits": 8, "bits": 8'),
        config.replace(b'"bits": 8', b'"bits": NaN'),
        config.replace(b'"gain": 6', b'"gain": 1e999, "old": 6'),
        b"[" * 100_000,
    ):
        with pytest.raises(DamagedError):
            codec_from_files(files | {"config.json": damaged}, origin="codec")


def test_encoding_needs_none_of_the_heavy_packages():
    code = """
import sys
for name in ("diffusers", "transformers", "timm", "datasets", "walloc", "pytorch_wavelets", "huggingface_hub"):
    sys.modules[name] = None  # makes its import fail
import torch, walloc_cdl
from walloc_cdl.codec import WallocCodec1D, WallocCodec2D, WallocConfig1D, WallocConfig2D
codec = walloc_cdl.load_codec("rgb-16x")
assert codec.encode(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, 12, 8, 8)
network = {"decoder": "network", "decoder_width": 32, "encoder": "full", "encoder_width": 32}
image = WallocCodec2D(WallocConfig2D(3, 3, 12, **network))
assert image.decode(image.encode(torch.zeros(1, 3, 64, 64))).shape == (1, 3, 64, 64)
audio = WallocCodec1D(WallocConfig1D(1, 3, 4, padding=1, post_filter=True, **network))
assert audio.decode(audio.encode(torch.zeros(1, 1, 800))).shape == (1, 1, 800)
from walloc_cdl.compat import walloc
walloc.Codec2D(3, 3, 32, 32, 12, 8, True)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
