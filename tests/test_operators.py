"""The file of operators: what was written comes back, and nothing else is let in; operators in other units agree."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from tests.support.operators import random_operators
from walloc_cdl.errors import DamagedError
from walloc_cdl.linear.operators import LatentOperators, operators_from_bytes, operators_to_bytes
from walloc_cdl.spec import LatentSpec
from walloc_cdl.transforms import operations
from walloc_cdl.transforms.operators import Operators

SPEC = LatentSpec("c" * 64, "image", 3, 5, 8, 8, "normal")
GOOD = operators_to_bytes(random_operators(SPEC))


def assert_equal(found: LatentOperators, expected: LatentOperators, **tolerance: float) -> None:
    for field in dataclasses.fields(LatentOperators):
        np.testing.assert_allclose(getattr(found, field.name), getattr(expected, field.name), **tolerance)


def test_round_trip():
    operators = operators_from_bytes(GOOD, spec=SPEC, origin="x")
    assert_equal(operators, random_operators(SPEC), rtol=0)
    assert operators_to_bytes(operators) == GOOD


def altered(**changes: np.ndarray | None) -> bytes:
    tensors = {**load(GOOD), **changes}
    return save({name: value for name, value in tensors.items() if value is not None})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not operators of these latents"),
        (GOOD[:-1], "not operators of these latents"),
        (altered(black=None), "'black' is missing"),
        (altered(gray=np.zeros(5, np.float32)), "'gray' is unknown"),
        (
            altered(hflip_weight=np.ones((5, 5, 5), np.float32)),
            r"hflip_weight is float32 \[5, 5, 5\], expected float32",
        ),
        (altered(white=np.zeros(5)), r"white is float64 \[5\], expected float32 \[5\]"),
        (altered(vflip_bias=np.full(5, np.nan, np.float32)), "vflip_bias has values that are not finite"),
    ],
)
def test_damaged_files_are_refused(data, message):
    with pytest.raises(DamagedError, match=message) as caught:
        operators_from_bytes(data, spec=SPEC, origin="codec/operators.safetensors")
    assert str(caught.value).startswith("codec/operators.safetensors: ")
    assert str(caught.value).endswith("restore the file from a copy or prepare the data set again")


def test_operators_of_a_prefix_take_missing_channels_for_their_means():
    operators, means = random_operators(SPEC), np.array([9, 9, 9, 0.5, -2], np.float64)
    z = torch.randn(2, 5, 4, 4)
    z[:, 3:] = torch.tensor(means[3:]).float().reshape(2, 1, 1)
    whole, cut = Operators(operators), Operators(operators.with_channels(3, means))
    for flip in (operations.horizontal_flip, operations.vertical_flip):
        torch.testing.assert_close(flip(z[:, :3], cut), flip(z, whole)[:, :3], rtol=1e-4, atol=1e-4)
    half = torch.full((2,), 0.5)
    torch.testing.assert_close(operations.brightness(z[:, :3], half, cut), operations.brightness(z, half, whole)[:, :3])
    torch.testing.assert_close(
        operations.contrast(z[:, :3], half, cut), operations.contrast(z, half, whole)[:, :3], rtol=1e-4, atol=1e-4
    )


def test_operators_in_the_units_of_a_model_input_do_the_same():
    operators, rng = random_operators(SPEC), np.random.default_rng(1)
    scale, mean = rng.uniform(0.1, 3, 5), rng.standard_normal(5)
    columns = [torch.from_numpy(part).float().reshape(5, 1, 1) for part in (scale, mean)]
    z, factor = torch.randn(2, 5, 4, 6), torch.tensor([0.5, 1.5])
    x = columns[0] * (z - columns[1])
    own, of_x = Operators(operators), Operators(operators.in_units(scale, mean))
    for operation, amounts in (
        (operations.horizontal_flip, ()),
        (operations.vertical_flip, ()),
        (operations.brightness, (factor,)),
        (operations.contrast, (factor,)),
    ):
        expected = columns[0] * (operation(z, *amounts, own) - columns[1])
        torch.testing.assert_close(operation(x, *amounts, of_x), expected, rtol=1e-4, atol=1e-4)
