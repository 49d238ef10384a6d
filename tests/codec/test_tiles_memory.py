"""Peak memory of tiled encoding and decoding, measured in a separate process as the kernel records it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc"),
]


PROGRAM = """
import sys
import torch
from walloc_cdl.codec import load_codec
from tests.support.paths import ROOT
from walloc_cdl.codec.tiles import decode_tiled, encode_tiled

def memory(name):
    return next(int(line.split()[1]) / 1000 for line in open("/proc/self/status") if line.startswith(name))

def peak(call, *arguments):
    "Return the peak memory of a call in megabytes, minus the memory before it, and its result."
    open("/proc/self/clear_refs", "w").write("5")  # resets the peak
    before = memory("VmRSS")
    result = call(*arguments)
    return memory("VmHWM") - before, result

codec = load_codec("rgb-16x")
encode_tiled(codec, torch.zeros(3, 1024, 1024, dtype=torch.uint8))  # so that libraries allocate their buffers
decode_tiled(codec, torch.zeros(12, 128, 128, dtype=torch.uint8) + 128)
generator = torch.Generator().manual_seed(0)
if sys.argv[1] == "encode":
    pixels = torch.randint(0, 256, (3, 4000, 6000), dtype=torch.uint8, generator=generator)
    megabytes, codes = peak(encode_tiled, codec, pixels)
    untiled_megabytes, (whole,) = peak(codec.encode, pixels[None])
    megabytes = max(megabytes, untiled_megabytes) - codes.numel() / 1e6
    print(megabytes, float((codes != whole).float().mean()), int((codes.int() - whole.int()).abs().max()))
else:
    codes = torch.randint(100, 156, (12, 1250, 1250), dtype=torch.uint8, generator=generator)
    megabytes, signal = peak(decode_tiled, codec, codes)
    print(megabytes - signal.numel() / 1e6, 0, 0)
"""


def measure(what: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, cwd=ROOT, timeout=500)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


def test_encoding_24_megapixels():
    megabytes, share_of_other_codes, largest_difference = measure("encode")
    assert megabytes < 36
    assert share_of_other_codes <= 1e-5
    assert largest_difference <= 1


def test_decoding_100_megapixels():
    megabytes, *_ = measure("decode")
    assert megabytes < 300
