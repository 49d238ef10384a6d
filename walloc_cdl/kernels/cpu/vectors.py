"""What the encoder's loops are made of, as vector instructions: loading samples, lifting, a block of the mix.

numba's loops would do, but for one thing: where a loop reads and writes many arrays, LLVM cannot prove that they do not
overlap, and takes one value at a time. So these are written in LLVM's own language, eight values at a time, which it
translates for whatever processor it finds (two instructions of four, one of eight). Nothing is checked: callers see to
it that all addresses, and seven values beyond the last that counts, may be read and written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDTH = 8
"""Values in a vector."""
VECTOR_BYTES = 4 * WIDTH
MIXED = 4
"""Latents that a block of the mix works on: with two vectors of each, eight sums in registers."""

STEPS = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
"""Daubechies and Sweldens' α, β, γ, δ: α and γ change odd samples, β and δ even ones."""

_FLOAT, _BYTE, _WORD, _INTEGER = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, WIDTH)
_WORDS = ir.VectorType(_WORD, WIDTH)
_FUSED = ("contract",)
"""Allows a product and a sum to be one instruction."""

Generator = Callable[[Any, list[Any]], None]


def _void(num_arguments: int, generate: Generator) -> tuple[Any, Callable[..., Any]]:
    """What numba wants of an intrinsic that takes int64s and returns nothing."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        generate(builder, list(arguments))
        return context.get_dummy_value()

    return types.void(*[types.int64] * num_arguments), code


def _integer(value: int) -> ir.Constant:
    return ir.Constant(_INTEGER, value)


def _everywhere(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * WIDTH)


def _load(builder: Any, address: Any, kind: Any = _VECTOR, align: int = 4) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=align)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=4)


def _product_sum(builder: Any, sum_: Any, factor: Any, other: Any) -> Any:
    return builder.fadd(sum_, builder.fmul(factor, other, flags=_FUSED), flags=_FUSED)


def _lift_sample(builder: Any, samples: dict[int, Any], at: int, number: int) -> None:
    neighbors = builder.fadd(samples[at - 1], samples[at + 1], flags=_FUSED)
    samples[at] = _product_sum(builder, samples[at], _everywhere(STEPS[number]), neighbors)


def _down(count: int, *, several: bool = False) -> Callable[..., Any]:
    """One level down a ring of `height` positions of `count` samples, or of `windows` times as many, each lifted once.

    From sample to sample of a position it is `step` bytes, from position to position `line`. What later samples need of
    earlier ones stays in registers. So a window's last two samples are written with the next one, those of the last
    window with the first.
    """

    @intrinsic
    def lift(
        context: Any,
        source: Any,
        step: Any,
        line: Any,
        target: Any,
        target_step: Any,
        target_line: Any,
        height: Any,
        windows: Any,
    ) -> Any:
        def generate(builder: Any, arguments: list[Any]) -> None:
            source, step, line, target, target_step, target_line, height, windows = arguments
            bottom = builder.sub(height, _integer(1))
            last = builder.sub(windows, _integer(1)) if several else _integer(0)
            across, target_across = (builder.mul(each, _integer(count)) for each in (step, target_step))

            samples = {0: _load(builder, source)}
            for at in range(-6, 0):
                position, sample = divmod(at, count) if not several else (-1, at % count)
                row = builder.add(height, _integer(position))
                for _ in range(2):  # the sixth sample before may be three positions away, on a ring of one
                    beyond = builder.icmp_signed("<", row, _integer(0))
                    row = builder.select(beyond, builder.add(row, height), row)
                place = builder.add(builder.add(source, builder.mul(row, line)), builder.mul(last, across))
                samples[at] = _load(builder, builder.add(place, builder.mul(step, _integer(sample))))
            for number, places in enumerate(((-5, -3, -1), (-4, -2), (-3,))):
                for at in places:
                    _lift_sample(builder, samples, at, number)
            carried = {at: cgutils.alloca_once_value(builder, samples[at]) for at in range(-3, 1)}
            end = builder.add(builder.add(target, builder.mul(bottom, target_line)), builder.mul(last, target_across))
            waiting = cgutils.alloca_once_value(builder, end)

            def window(begin: Any, out: Any, behind: Any) -> None:
                samples = {at: builder.load(value) for at, value in carried.items()}
                for at in range(1, count):
                    samples[at] = _load(builder, builder.add(begin, builder.mul(step, _integer(at))))
                samples[count] = _load(builder, behind)
                for number in range(4):
                    for at in range(1 - number, count - number, 2):
                        _lift_sample(builder, samples, at, number)
                for at in range(-2, count - 2):
                    base = builder.load(waiting) if at < 0 else out
                    _store(builder, samples[at], builder.add(base, builder.mul(target_step, _integer(at % count))))
                for at, value in carried.items():
                    builder.store(samples[at + count], value)
                builder.store(out, waiting)

            with cgutils.for_range(builder, height) as rows:
                begin = builder.add(source, builder.mul(rows.index, line))
                out = builder.add(target, builder.mul(rows.index, target_line))
                is_bottom = builder.icmp_signed("==", rows.index, bottom)
                below = builder.select(is_bottom, source, builder.add(begin, line))
                if not several:
                    window(begin, out, below)
                else:
                    with cgutils.for_range(builder, windows) as places:
                        start = builder.add(begin, builder.mul(places.index, across))
                        is_last = builder.icmp_signed("==", places.index, last)
                        behind = builder.select(is_last, below, builder.add(start, across))
                        window(start, builder.add(out, builder.mul(places.index, target_across)), behind)

        return _void(8, generate)

    return lift


down_two, down_four, down_eight, down_eights = _down(2), _down(4), _down(8), _down(8, several=True)


def _from_bytes(count: int) -> Callable[..., Any]:
    """uint8 to float32, less 127.5, of `count` neighboring samples at eight positions, which are `step` bytes apart."""

    @intrinsic
    def load(context: Any, source: Any, step: Any, target: Any, target_stride: Any) -> Any:
        def generate(builder: Any, arguments: list[Any]) -> None:
            source, step, target, target_stride = arguments
            whole = ir.IntType(8 * count)
            words = ir.Constant(ir.VectorType(whole, WIDTH), ir.Undefined)
            for position in range(WIDTH):
                address = builder.add(source, builder.mul(step, _integer(position)))
                words = builder.insert_element(
                    words, _load(builder, address, whole, align=1), ir.Constant(_WORD, position)
                )
            for sample in range(count):
                shifted = builder.lshr(words, ir.Constant(words.type, [8 * sample] * WIDTH))
                bytes_ = builder.trunc(shifted, ir.VectorType(_BYTE, WIDTH))
                values = builder.uitofp(builder.zext(bytes_, _WORDS), _VECTOR)
                address = builder.add(target, builder.mul(target_stride, _integer(sample)))
                _store(builder, builder.fsub(values, _everywhere(127.5)), address)

        return _void(4, generate)

    return load


load_two, load_four, load_eight = _from_bytes(2), _from_bytes(4), _from_bytes(8)


@intrinsic
def transpose_8x8(context: Any, source: Any, step: Any, target: Any, target_stride: Any) -> Any:
    """float32 of eight neighboring samples at eight positions, which are `step` bytes apart, to phases."""

    def generate(builder: Any, arguments: list[Any]) -> None:
        source, step, target, target_stride = arguments
        rows = [_load(builder, builder.add(source, builder.mul(step, _integer(position)))) for position in range(WIDTH)]
        for distance in (4, 2, 1):  # exchanges the halves, quarters and eighths that lie off the diagonal
            low = [at for block in range(0, 8, 2 * distance) for at in range(block, block + distance)]
            own = [at if at in low else at - distance + WIDTH for at in range(8)]
            other = [at + distance if at in low else at + WIDTH for at in range(8)]
            for first in low:
                second = first + distance
                rows[first], rows[second] = (
                    builder.shuffle_vector(rows[first], rows[second], ir.Constant(_WORDS, mask))
                    for mask in (own, other)
                )
        for sample, values in enumerate(rows):
            _store(builder, values, builder.add(target, builder.mul(target_stride, _integer(sample))))

    return _void(4, generate)


@intrinsic
def mix_block(
    context: Any,
    source: Any,
    stride: Any,
    count: Any,
    weight: Any,
    weight_stride: Any,
    target: Any,
    latent_stride: Any,
    second: Any,
) -> Any:
    """Add to `MIXED` latents, at sixteen positions, the products of their weights and `count` bands.

    The positions of a band lie one after the other, `stride` bytes behind those of the band before; those of a latent
    are two vectors, the latter `second` bytes behind the former.
    """

    def generate(builder: Any, arguments: list[Any]) -> None:
        source, stride, count, weight, weight_stride, target, latent_stride, second = arguments
        places, sums = [], []
        for latent in range(MIXED):
            address = builder.add(target, builder.mul(latent_stride, _integer(latent)))
            for place in (address, builder.add(address, second)):
                places.append(place)
                sums.append(cgutils.alloca_once_value(builder, _load(builder, place)))
        with cgutils.for_range(builder, count) as loop:
            address = builder.add(source, builder.mul(stride, loop.index))
            halves = [_load(builder, address), _load(builder, builder.add(address, _integer(VECTOR_BYTES)))]
            row = builder.add(weight, builder.mul(weight_stride, loop.index))
            for latent in range(MIXED):
                factor = _load(builder, builder.add(row, _integer(4 * latent)), _FLOAT)
                single = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), factor, ir.Constant(_WORD, 0))
                factors = builder.shuffle_vector(single, single, ir.Constant(_WORDS, [0] * WIDTH))
                for half, values in enumerate(halves):
                    total = sums[2 * latent + half]
                    builder.store(_product_sum(builder, builder.load(total), factors, values), total)
        for place, total in zip(places, sums, strict=True):
            _store(builder, builder.load(total), place)

    return _void(8, generate)
