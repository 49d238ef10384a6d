"""How the images of each condition are stored and restored, at the size of the full images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from experiments.comparison.conditions import Condition
from experiments.fidelity.stored_forms import CodecForm, FileForm, StoredForm
from walloc_cdl.codec import Codec, load_codec, to_bytes
from walloc_cdl.codec.base import to_unit_range
from walloc_cdl.codec.families.resize import ResizeCodec
from walloc_cdl.errors import CallError
from walloc_cdl.planes.rows import planes_for_bytes, row_bytes


@dataclass(frozen=True, eq=False)
class ConditionForm:
    """A condition with what stores and restores its images."""

    condition: Condition
    codec: Codec | None
    form: StoredForm | None
    """None for the full images."""
    num_bytes: int
    """Bytes that each image may take."""
    num_values: int
    """Stored values of an image."""
    stored: str
    """How an image is stored, for people."""

    def restore(self, images: Tensor) -> tuple[Tensor, list[int]]:
        """Returns images uint8 (N, C, S, S) as they are restored, and the bytes that each one took."""
        if self.form is None:
            return images, [self.num_bytes] * len(images)
        return self.form.restore(images, self.num_bytes)


class _Enlarged(StoredForm):
    """Pixels of a resize codec, enlarged by a bicubic filter."""

    def __init__(self, codec: Codec) -> None:
        self.name = codec.name
        self._codec = codec

    def restore(self, images: Tensor, num_bytes: int) -> tuple[Tensor, list[int]]:
        """See `StoredForm.restore`."""
        with torch.inference_mode():
            pixels = to_unit_range(self._codec.encode(images))
            return to_bytes(interpolate(pixels, size=images.shape[2:], mode="bicubic")), [num_bytes] * len(images)


def condition_form(condition: Condition, shape: tuple[int, int, int]) -> ConditionForm:
    """Returns how images of `shape`, (C, S, S), are stored in a condition.

    Raises `CallError` for a condition that shows no pixels of that size, and for bytes that a codec does not have.
    """
    if condition.grid is not None or condition.stem != "synthesis":
        raise CallError(
            f"condition {condition.name!r}: a probe shows images at their own size; omit what stands after @ or :"
        )
    storage, full_bytes = condition.storage, shape[0] * shape[1] * shape[2]
    if storage.is_full:
        return ConditionForm(condition, None, None, full_bytes, full_bytes, f"{shape[2]} × {shape[1]} pixels")
    if storage.file_format is not None:
        stored = f"{condition.kind.title.removesuffix(' files')} of at most {storage.num_bytes:,} bytes"
        form = FileForm(storage.file_format)
        return ConditionForm(condition, None, form, storage.num_bytes or 0, full_bytes, stored)
    codec = load_codec(storage.codec or "")
    grid = codec.latent_shape(shape)[1:]
    if isinstance(codec, ResizeCodec):
        size = row_bytes(codec.spec, grid)
        return ConditionForm(condition, codec, _Enlarged(codec), size, size, f"{grid[1]} × {grid[0]} pixels")
    if storage.num_bytes is not None:
        try:
            codec = codec.with_planes(planes_for_bytes(codec.spec, grid, storage.num_bytes))
        except CallError as error:
            raise CallError(f"condition {condition.name!r}: {error}") from error
    size, channels = row_bytes(codec.spec, grid), codec.spec.latent_channels
    planes = codec.spec.num_planes
    what = f"{planes} bit planes" if codec.spec.planes is not None else f"{channels} channels"
    values = channels * grid[0] * grid[1]
    return ConditionForm(condition, codec, CodecForm(codec), size, values, f"{what} of {grid[1]} × {grid[0]}")
