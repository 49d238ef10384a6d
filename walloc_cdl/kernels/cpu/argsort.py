"""Argsort of random words, for shuffling."""

from __future__ import annotations

import numpy as np

from walloc_cdl.kernels.cpu.compiling import compiled

LEADING_BITS = 12
"""Maximum number of bits of the first radix pass: with more, consecutive writes would go to different pages."""
NEXT_BITS = 11
"""Bits of the second radix pass, whose counters, and one part of ten million words, fit the nearest caches."""


@compiled()
def argsort_words(words: np.ndarray) -> np.ndarray:
    """Return np.argsort(words, kind="stable"), int64 (N,), of random words, uint64 (N,). Reference: np.argsort, which
    takes ten times as long.

    The upper bits of a word and its index form one number, which is moved instead of both: a radix pass groups numbers
    by their leading bits, a second one by their next bits, and an insertion sort moves each before its larger
    neighbors, of which random words have one or two. Words that are far from random have many, and take long.
    """
    index_bits = 0
    while words.size > 1 << index_bits:
        index_bits += 1
    lower = (np.uint64(1) << np.uint64(index_bits)) - np.uint64(1)
    leading = min(LEADING_BITS, max(index_bits - NEXT_BITS, 1))
    shift = np.uint64(64 - leading)
    numbers = np.empty_like(words)
    places = _begins(words, shift, leading)
    for index in range(words.size):
        group = words[index] >> shift
        numbers[places[group]] = (words[index] & ~lower) | np.uint64(index)
        places[group] += 1
    begin = 0
    for end in places:
        _sort(numbers[begin:end], np.uint64(64 - leading - NEXT_BITS), words, lower)
        begin = end
    for place in range(words.size):
        numbers[place] &= lower
    return numbers.view(np.int64)


@compiled()
def _begins(numbers: np.ndarray, shift: int, bits: int) -> np.ndarray:
    """Return the starts (2^bits,) of consecutive groups of numbers with equal bits shift … shift + bits - 1."""
    last = np.uint64((1 << bits) - 1)
    places = np.zeros(1 << bits, np.int64)
    for number in numbers:
        places[(number >> shift) & last] += 1
    begin = 0
    for group in range(places.size):
        begin, places[group] = begin + places[group], begin
    return places


@compiled()
def _sort(numbers: np.ndarray, shift: int, words: np.ndarray, lower: int) -> None:
    """Sort numbers whose leading bits are equal."""
    last = np.uint64((1 << NEXT_BITS) - 1)
    moved = np.empty_like(numbers)
    places = _begins(numbers, shift, NEXT_BITS)
    for number in numbers:
        group = (number >> shift) & last
        moved[places[group]] = number
        places[group] += 1
    for end in range(numbers.size):
        number, place = moved[end], end
        while place > 0 and _is_less(number, numbers[place - 1], words, lower):
            numbers[place] = numbers[place - 1]
            place -= 1
        numbers[place] = number


@compiled()
def _is_less(number: int, other: int, words: np.ndarray, lower: int) -> bool:
    """Return whether the word of a number is smaller, or equal with a smaller index."""
    if (number ^ other) > lower:
        return number < other
    word, other_word = words[number & lower], words[other & lower]
    return word < other_word or (word == other_word and number < other)
