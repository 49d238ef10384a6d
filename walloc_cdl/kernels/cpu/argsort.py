"""The order that sorts random words, as shuffling needs it."""

from __future__ import annotations

import numpy as np

from walloc_cdl.kernels.cpu.compiling import compiled

LEADING_BITS = 12
"""Bits of a word, at most, by which words are divided first: with more, every word written would be on another page."""
NEXT_BITS = 11
"""Bits by which each part is divided again: so many counters and a part of ten million words fit the nearest caches."""


@compiled()
def argsort_words(words: np.ndarray) -> np.ndarray:
    """np.argsort(words, kind="stable") of random words, uint64 (N,): int64 (N,). Reference: that, which takes ten times
    as long.

    A word's upper bits and its index make one number, which is moved in place of both: to the numbers with the same
    leading bits, among them to those with the same next bits, and then before the neighbors that are larger, of which
    there are one or two. Words that are far from random have many such neighbors, and take long.
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
    """Where groups of numbers with the same `bits` bits from bit `shift` on begin, one after the other: (2^bits,)."""
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
    """Sort numbers whose bits above the next ones are the same."""
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
    """Whether a number's word is less, or is the same of a smaller index."""
    if (number ^ other) > lower:
        return number < other
    word, other_word = words[number & lower], words[other & lower]
    return word < other_word or (word == other_word and number < other)
