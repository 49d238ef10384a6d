"""Bit planes and tables of levels as vector instructions: planes to codes and back, lookup of values, search for codes.

A word of a plane is a mask of as many lanes as it has bits: position n is bit n of the word and lane n of the vector.
So planes are joined to codes by one choice for each plane, and separated by one comparison for each.

Tables of levels are small: a permutation of a register, with the codes as its indices, looks up as many values as a
register has lanes in one instruction, where a table of memory takes a load for each. A larger table is several
registers, among whose results the upper bits choose. The thresholds of a channel are searched likewise, bit by bit, the
most significant first: the bits that are known choose the threshold that decides the next one
(`walloc_cdl.planes.levels.heap_of_thresholds`).

LLVM has no instruction for a permutation by a variable, but translates lane by lane extraction to one for processors
that have it, AVX2 for eight lanes and AVX-512 for sixteen. For others, each lane loads its value from memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from walloc_cdl.kernels.cpu.simd.vectors import (
    BYTE,
    FLOAT,
    INTEGER,
    WORD,
    integer,
    load,
)

GROUP = 32
"""Positions that are processed at a time, of each plane a word of four bytes."""
GROUP_BYTES = GROUP // 8
MAX_BITS = 8
MAX_LANES = 16
"""Tables can be read by so many numbers beyond their ends."""

_BIT = ir.IntType(1)


def _code_for_target(num_arguments: int, generate: Callable[[Any, Any, list[Any]], None]) -> tuple[Any, Any]:
    """Return the same as `intrinsic_of_integers`, of a function that is also given the target of the compiler."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        generate(context, builder, list(arguments))
        return context.get_dummy_value()

    return types.void(*[types.int64] * num_arguments), code


def _vector(kind: ir.Type, lanes: int) -> ir.VectorType:
    return ir.VectorType(kind, lanes)


def _filled(kind: ir.Type, lanes: int, value: int) -> ir.Constant:
    """Return a constant vector with the same integer in all lanes."""
    return ir.Constant(_vector(kind, lanes), [value] * lanes)


def _registers(context: Any) -> tuple[int, bool]:
    """Return the lanes of vectors of the processor that is the target, and whether it can permute them."""
    features = context.codegen().magic_tuple()[2].split(",")
    return (16, True) if "+avx512f" in features else (8, "+avx2" in features)


def _permuted(builder: Any, table: Any, index: Any) -> Any:
    """Emit the lanes of `table` that `index` names, both vectors of the same number of lanes."""
    found = ir.Constant(table.type, ir.Undefined)
    for number in range(table.type.count):
        lane = ir.Constant(WORD, number)
        value = builder.extract_element(table, builder.extract_element(index, lane))
        found = builder.insert_element(found, value, lane)
    return found


def _loaded(builder: Any, table: Any, index: Any) -> Any:
    """Emit the numbers at `index` of a table of float32 in memory."""
    found = ir.Constant(_vector(FLOAT, index.type.count), ir.Undefined)
    for number in range(index.type.count):
        lane = ir.Constant(WORD, number)
        place = builder.mul(builder.zext(builder.extract_element(index, lane), INTEGER), integer(4))
        found = builder.insert_element(found, load(builder, builder.add(table, place), FLOAT), lane)
    return found


def _table(context: Any, builder: Any, address: Any, size: int) -> Callable[[Any], Any]:
    """Emit loads of a table of float32 numbers; return a function that emits a lookup of a vector of indices below
    `size`."""
    lanes, has_permutation = _registers(context)
    if not has_permutation:
        return lambda index: _loaded(builder, address, index)
    count = max(1, size // lanes)
    parts = [
        load(builder, builder.add(address, integer(4 * lanes * part)), _vector(FLOAT, lanes)) for part in range(count)
    ]

    def look_up(index: Any) -> Any:
        if count == 1:
            return _permuted(builder, parts[0], index)
        low = builder.and_(index, _filled(WORD, lanes, lanes - 1))
        found, bit = [_permuted(builder, part, low) for part in parts], lanes
        while len(found) > 1:
            masked = builder.and_(index, _filled(WORD, lanes, bit))
            is_upper = builder.icmp_unsigned("!=", masked, _filled(WORD, lanes, 0))
            found = [builder.select(is_upper, *pair[::-1]) for pair in zip(found[::2], found[1::2], strict=True)]
            bit *= 2
        return found[0]

    return look_up


def _for_each_count(builder: Any, bits: Any, emit: Callable[[int], None]) -> None:
    """Emit a case for each number of bits, 1 to `MAX_BITS`."""
    for count in range(1, MAX_BITS + 1):
        with builder.if_then(builder.icmp_signed("==", bits, integer(count))):
            emit(count)


def _plane_addresses(builder: Any, row: Any, numbers: Any, size: Any, bits: int) -> list[Any]:
    """Emit the addresses of a channel's planes, the most significant first, given their numbers, int64."""
    return [
        builder.add(row, builder.mul(load(builder, builder.add(numbers, integer(8 * place)), INTEGER), size))
        for place in range(bits)
    ]


def _for_each_group(builder: Any, num_bytes: Any, emit: Callable[[Any], None]) -> None:
    """Emit a loop over groups of positions, given the address of the first as bytes from the begin of a plane.

    There are `num_bytes`, at least `GROUP_BYTES`; the last group may overlap with the one before it.
    """
    groups = builder.sdiv(builder.add(num_bytes, integer(GROUP_BYTES - 1)), integer(GROUP_BYTES))
    last = builder.sub(num_bytes, integer(GROUP_BYTES))
    with cgutils.for_range(builder, groups) as loop:
        place = builder.mul(loop.index, integer(GROUP_BYTES))
        emit(builder.select(builder.icmp_signed("<", place, last), place, last))


def _joined(builder: Any, planes: list[Any], place: Any) -> Any:
    """Emit the codes of a group, `GROUP` bytes, from the words of its planes."""
    codes = _filled(BYTE, GROUP, 0)
    for number, plane in enumerate(planes):
        word = load(builder, builder.add(plane, place), ir.IntType(GROUP), align=1)
        weight = _filled(BYTE, GROUP, 1 << len(planes) - 1 - number)
        chosen = builder.select(builder.bitcast(word, _vector(_BIT, GROUP)), weight, _filled(BYTE, GROUP, 0))
        codes = builder.or_(codes, chosen)
    return codes


def _store_bytes(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


@intrinsic
def byte_at(context: Any, address: Any) -> tuple[Any, Any]:
    """Return the byte at an address, int64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(load(builder, arguments[0], BYTE, align=1), INTEGER)

    return types.int64(types.int64), code


@intrinsic
def join_planes(
    context: Any, bits: Any, row: Any, numbers: Any, size: Any, num_bytes: Any, target: Any
) -> tuple[Any, Any]:
    """Write the codes of a channel at the positions of the first `num_bytes` of its planes to `target`, a byte each.

    `row` is the address of a row, `numbers` that of the int64 numbers of the channel's planes in it, of which there are
    `bits`, and `size` their bytes.
    """

    def generate(context: Any, builder: Any, arguments: list[Any]) -> None:
        bits, row, numbers, size, num_bytes, target = arguments

        def emit(count: int) -> None:
            planes = _plane_addresses(builder, row, numbers, size, count)

            def emit_group(place: Any) -> None:
                address = builder.add(target, builder.mul(place, integer(8)))
                _store_bytes(builder, _joined(builder, planes, place), address)

            _for_each_group(builder, num_bytes, emit_group)

        _for_each_count(builder, bits, emit)

    return _code_for_target(6, generate)


@intrinsic
def look_up_planes(
    context: Any, bits: Any, row: Any, numbers: Any, size: Any, num_bytes: Any, table: Any, target: Any
) -> tuple[Any, Any]:
    """Write the values of these codes, float32, from a table of 2^bits values, instead of the codes."""

    def generate(context: Any, builder: Any, arguments: list[Any]) -> None:
        bits, row, numbers, size, num_bytes, table, target = arguments
        lanes, _ = _registers(context)

        def emit(count: int) -> None:
            planes = _plane_addresses(builder, row, numbers, size, count)
            look_up = _table(context, builder, table, 2**count)

            def emit_group(place: Any) -> None:
                codes = _joined(builder, planes, place)
                for first in range(0, GROUP, lanes):
                    own = ir.Constant(_vector(WORD, lanes), list(range(first, first + lanes)))
                    index = builder.zext(builder.shuffle_vector(codes, codes, own), _vector(WORD, lanes))
                    at = builder.add(builder.mul(place, integer(32)), integer(4 * first))
                    value = look_up(index)
                    builder.store(value, builder.inttoptr(builder.add(target, at), value.type.as_pointer()), align=4)

            _for_each_group(builder, num_bytes, emit_group)

        _for_each_count(builder, bits, emit)

    return _code_for_target(7, generate)


@intrinsic
def separate_planes(
    context: Any, bits: Any, codes: Any, row: Any, numbers: Any, size: Any, num_bytes: Any
) -> tuple[Any, Any]:
    """Write the first `num_bytes` of a channel's planes, given its codes; the inverse of `join_planes`."""

    def generate(context: Any, builder: Any, arguments: list[Any]) -> None:
        bits, codes, row, numbers, size, num_bytes = arguments

        def emit(count: int) -> None:
            planes = _plane_addresses(builder, row, numbers, size, count)

            def emit_group(place: Any) -> None:
                address = builder.add(codes, builder.mul(place, integer(8)))
                group = load(builder, address, _vector(BYTE, GROUP), align=1)
                for number, plane in enumerate(planes):
                    bit = builder.and_(group, _filled(BYTE, GROUP, 1 << count - 1 - number))
                    mask = builder.icmp_unsigned("!=", bit, _filled(BYTE, GROUP, 0))
                    _store_bytes(builder, builder.bitcast(mask, ir.IntType(GROUP)), builder.add(plane, place))

            _for_each_group(builder, num_bytes, emit_group)

        _for_each_count(builder, bits, emit)

    return _code_for_target(6, generate)


def _search(context: Any, builder: Any, heap: Any, bits: int) -> Callable[[Any], Any]:
    """Emit loads of the thresholds of `bits`; return a function that emits the codes, bytes, of a vector of latents."""
    lanes, _ = _registers(context)
    tables = [_table(context, builder, builder.add(heap, integer(4 * 2**step)), 2**step) for step in range(bits)]

    def search(latents: Any) -> Any:
        codes = _filled(WORD, lanes, 0)
        for look_up in tables:
            bit = builder.fcmp_ordered(">=", latents, look_up(codes))  # NaN gets the lowest code
            codes = builder.or_(builder.add(codes, codes), builder.zext(bit, codes.type))
        return builder.trunc(codes, _vector(BYTE, lanes))

    return search


@intrinsic
def search_codes(
    context: Any,
    bits: Any,
    heap: Any,
    latents: Any,
    latent_line: Any,
    codes: Any,
    code_line: Any,
    lines: Any,
    columns: Any,
) -> tuple[Any, Any]:
    """Write the codes, bytes, of `lines` of `columns` latents of one channel, float32; both lines are in bytes apart.

    `heap` is the address of `heap_of_thresholds`. Latents are read by up to `MAX_LANES` - 1 beyond the end of a line.
    """

    def generate(context: Any, builder: Any, arguments: list[Any]) -> None:
        bits, heap, latents, latent_line, codes, code_line, lines, columns = arguments
        lanes, _ = _registers(context)
        part = cgutils.alloca_once(builder, _vector(BYTE, lanes))
        last = builder.sub(columns, integer(lanes))
        vectors = builder.sdiv(builder.add(columns, integer(lanes - 1)), integer(lanes))

        def emit(count: int) -> None:
            search = _search(context, builder, heap, count)
            with cgutils.for_range(builder, lines) as line:
                source = builder.add(latents, builder.mul(latent_line, line.index))
                target = builder.add(codes, builder.mul(code_line, line.index))
                with builder.if_else(builder.icmp_signed(">=", last, integer(0))) as (long, short):
                    with long, cgutils.for_range(builder, vectors) as loop:
                        # The last vector of a line overlaps with the one before it.
                        place = builder.mul(loop.index, integer(lanes))
                        place = builder.select(builder.icmp_signed("<", place, last), place, last)
                        address = builder.add(source, builder.mul(place, integer(4)))
                        found = search(load(builder, address, _vector(FLOAT, lanes)))
                        _store_bytes(builder, found, builder.add(target, place))
                    with short:
                        builder.store(search(load(builder, source, _vector(FLOAT, lanes))), part)
                        pointer = builder.inttoptr(target, cgutils.voidptr_t)
                        cgutils.raw_memcpy(builder, pointer, builder.bitcast(part, cgutils.voidptr_t), columns, 1)

        _for_each_count(builder, bits, emit)

    return _code_for_target(8, generate)
