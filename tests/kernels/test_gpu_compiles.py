"""The GPU kernels compile, without a GPU, to code that fits several generations and uses their tensor cores."""

import os

import numpy as np
import pytest
import torch

from walloc_cdl.kernels.gpu import encode
from walloc_cdl.kernels.gpu.lookup import lookup_launch
from walloc_cdl.kernels.gpu.operators import image_operators, sequence_operators
from walloc_cdl.kernels.gpu.unpack import unpack_launch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not encode.has_triton(), reason="triton is not installed"),
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="Triton only interprets"),
]

POINTERS = {
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int16: "*i16",
    torch.int64: "*i64",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
}
MATRIX_PRODUCTS = {80: "mma.sync", 90: "wgmma", 100: "tcgen05"}


def compile_for(capability, kernel, launch):
    """Return the kernel of a launch, compiled by Triton but not launched."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, hints = {}, {}, {}
    for place, (name, parameter) in enumerate(zip(kernel.arg_names, kernel.params, strict=True)):
        value = launch.arguments[name]
        # At a launch, an integer argument of 1 becomes a constant.
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[name], constants[(place,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name], hints[(place,)] = POINTERS[value.dtype], [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
            if isinstance(value, int) and value % 16 == 0:
                hints[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=hints)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=launch.options)


def launch_of(dimensions, channels, levels, latents, dtype, bits=None):
    make = image_operators if dimensions == 2 else sequence_operators
    weight = np.random.default_rng(0).normal(size=(latents, channels * 2 ** (dimensions * levels)))
    thresholds = None if bits is None else np.zeros((latents, 2**bits - 1), np.float32)
    operators = make(weight, np.zeros(latents), levels=levels, bits=bits or 8, thresholds=thresholds)
    kind = encode.KINDS[dtype]
    arrays = [*operators.matrices.values(), operators.scale[kind], operators.shift[kind]]
    side = 2**levels * (1 if latents == 1 else 100)
    sides = (side,) * dimensions
    signal = torch.empty((64, channels, *sides), dtype=dtype, device="meta")
    codes = torch.empty((64, latents, *(side >> levels for side in sides)), dtype=torch.uint8, device="meta")
    launch = encode.image_launch if dimensions == 2 else encode.sequence_launch
    heaps = None if operators.heaps is None else torch.from_numpy(operators.heaps)
    return launch(signal, codes, *map(torch.from_numpy, arrays), levels, bits or 8, heaps)


@pytest.mark.parametrize("capability", MATRIX_PRODUCTS)
@pytest.mark.parametrize(
    ("dimensions", "channels", "levels", "latents", "dtype", "search"),
    [
        (2, 3, 3, 12, torch.uint8, None),
        (2, 3, 3, 48, torch.float32, None),
        (2, 3, 1, 12, torch.uint8, None),
        (2, 1, 5, 48, torch.uint8, None),
        (2, 1, 3, 1, torch.uint8, None),
        (1, 1, 3, 1, torch.int16, None),
        (1, 2, 8, 108, torch.int16, None),
        (2, 3, 3, 33, torch.uint8, 6),
        (2, 3, 4, 150, torch.uint8, 8),
        (1, 2, 8, 108, torch.int16, 7),
    ],
)
def test_encoding_kernels(capability, dimensions, channels, levels, latents, dtype, search):
    from walloc_cdl.kernels.gpu import triton_encode

    launch = launch_of(dimensions, channels, levels, latents, dtype, search)
    kernel = triton_encode.encode_image if dimensions == 2 else triton_encode.encode_sequence
    compiled = compile_for(capability, kernel, launch)
    assert compiled.metadata.shared <= encode.SHARED_BYTES.get(levels, encode.DEFAULT_SHARED_BYTES)
    assert MATRIX_PRODUCTS[capability] in compiled.asm["ptx"] or levels >= 4
    assert "st.global" in compiled.asm["ptx"]
    assert len(compiled.asm["cubin"]) > 10_000


@pytest.mark.parametrize("capability", MATRIX_PRODUCTS)
def test_lookup_kernel(capability):
    from walloc_cdl.kernels.gpu import triton_lookup

    codes = torch.empty(8, 12, 32, 32, dtype=torch.uint8, device="meta")
    rows = torch.empty(4, dtype=torch.int64, device="meta")
    table = torch.empty(12, 256, dtype=torch.float16, device="meta")
    launch = lookup_launch(codes, rows, table, torch.empty(4, 12, 32, 32, dtype=torch.float16, device="meta"))
    ptx = compile_for(capability, triton_lookup.lookup, launch).asm["ptx"]
    assert "ld.global.v4.b32" in ptx, "16 codes are loaded as one word"
    assert "st.global.v4.b32" in ptx, "8 values are stored as one word"


@pytest.mark.parametrize("capability", MATRIX_PRODUCTS)
@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_unpacking_kernel(capability, dtype):
    from walloc_cdl.kernels.gpu import triton_planes

    planes = (0, 0, 1, 0, 2, 1, 2, 2)
    rows = torch.empty(8, 2 * len(planes) * 128, dtype=torch.uint8)
    table = None if dtype is None else torch.empty(3, 256, dtype=dtype)
    out = torch.empty(8, 3, 32, 32, dtype=dtype or torch.uint8)
    ptx = compile_for(capability, triton_planes.unpack, unpack_launch(rows, planes, table, out)).asm["ptx"]
    assert f"st.global.v{2 if dtype is None else 4}.b32" in ptx, "a thread stores its eight positions as one word"
