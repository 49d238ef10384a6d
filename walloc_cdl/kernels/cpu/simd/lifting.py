"""One level of the CDF 9/7 wavelet transform of eight periodic lines at once, as vector instructions.

Lifting (Daubechies and Sweldens, 1998, "Factoring wavelet transforms into lifting steps") computes the two bands of a
level in place. With even samples s and odd samples d of a line x, s[i] = x[2i] and d[i] = x[2i + 1]:

    step 0, predict:  d[i] += α (s[i] + s[i + 1])
    step 1, update:   s[i] += β (d[i - 1] + d[i])
    step 2, predict:  d[i] += γ (s[i] + s[i + 1])
    step 3, update:   s[i] += δ (d[i - 1] + d[i])
    scale:            low band ζ s, high band -d / ζ  (the minus sign is bior4.4's convention)

The scales are not applied here: they are constants of a band, and are multiplied into the weights of the next layer
(`lifting.scale_of_band`). A level costs one addition and one multiply-add for half of the samples in each of the four
steps, which is two of each per sample.

**Lanes.** A vector holds the same sample of eight different lines, so that no step needs a value from another lane, and
the eight lines are transformed with the instructions of one.

**One pass, four steps.** Four loops over a line, one for each step, would load and store every sample four times. Here
one pass over the line applies all four steps, each as far behind the previous one as its neighbors require. A pass
processes a *window* of `count` samples at a time. When the samples n … n + count - 1 of the window and the first sample
of the next one are loaded,

    step 0 runs on the odd samples  n + 1 … n + count - 1   (needs the raw sample n + count)
    step 1 runs on the even samples n     … n + count - 2   (needs step 0 on both sides)
    step 2 runs on the odd samples  n - 1 … n + count - 3   (needs step 1 on both sides)
    step 3 runs on the even samples n - 2 … n + count - 4   (needs step 2 on both sides)

so that the samples n - 2 … n + count - 3 are finished and stored. Four samples are carried to the next window in
registers: relative to its first sample 0,

    -3 (odd)  is finished, and needed by step 3 on sample -2,
    -2 (even) has had step 1,
    -1 (odd)  has had step 0,
     0 (even) is raw.

**Edges.** Lines are periodic. The pass begins by loading the last six samples of the line, -6 … -1, and applying the
steps that give the four carried ones. The last window uses the first sample of the line, still raw in the source, as
its next one. Since a window stores the last two samples of the previous one, the first window stores those of the
last. Source and target must not overlap, because the beginning of the source is read again at the end.

**Memory.** A sample of a line is at source + position · `line` + (sample within the position) · `step`: consecutive
samples of a line need not be adjacent in memory, see `lifting`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import cgutils
from numba.extending import intrinsic

from walloc_cdl.kernels.cpu.simd.vectors import add, integer, intrinsic_of_integers, load, multiply_add, splat, store

ALPHA, BETA, GAMMA, DELTA = -1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971
"""Coefficients of the four lifting steps: predict, update, predict, update."""
STEPS = (ALPHA, BETA, GAMMA, DELTA)


def _lift_sample(builder: Any, samples: dict[int, Any], at: int, number: int) -> None:
    """Emit step `number` on the sample `at`: sample += coefficient · (left neighbor + right neighbor)."""
    neighbors = add(builder, samples[at - 1], samples[at + 1])
    samples[at] = multiply_add(builder, samples[at], splat(STEPS[number]), neighbors)


def _make_lift(count: int, *, several: bool = False) -> Callable[..., Any]:
    """Return an intrinsic for lines of `height` positions, each of one window of `count` samples, or of `windows` such
    windows with `several` (otherwise `windows` is ignored).

    Its arguments are int64: the address, `step` and `line` of the source, in bytes, the same three of the target,
    `height` and `windows`.
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
            bottom = builder.sub(height, integer(1))
            last = builder.sub(windows, integer(1)) if several else integer(0)
            # From window to window of a position, in bytes.
            across, target_across = (builder.mul(each, integer(count)) for each in (step, target_step))

            # Before the first window: the samples -6 … -1, which are the line's last, and sample 0.
            samples = {0: load(builder, source)}
            for at in range(-6, 0):
                # The position of the sample, counted from the line's end, and the sample's number within its window.
                position, sample = divmod(at, count) if not several else (-1, at % count)
                row = builder.add(height, integer(position))
                # Sample -6 is three positions back where a position has two samples: on a line of one position it takes
                # two more turns around the period.
                for _ in range(2):
                    is_before = builder.icmp_signed("<", row, integer(0))
                    row = builder.select(is_before, builder.add(row, height), row)
                place = builder.add(builder.add(source, builder.mul(row, line)), builder.mul(last, across))
                samples[at] = load(builder, builder.add(place, builder.mul(step, integer(sample))))
            # Steps 0, 1 and 2 on these, as far as their neighbors are available: sample -3 is then finished.
            for number, places in enumerate(((-5, -3, -1), (-4, -2), (-3,))):
                for at in places:
                    _lift_sample(builder, samples, at, number)
            # The samples carried from window to window. LLVM turns these variables on the stack into registers.
            carried = {at: cgutils.alloca_once_value(builder, samples[at]) for at in range(-3, 1)}
            # Address of the target's previous window, for its last two samples; initially that of the last window.
            end = builder.add(builder.add(target, builder.mul(bottom, target_line)), builder.mul(last, target_across))
            previous = cgutils.alloca_once_value(builder, end)

            def window(begin: Any, out: Any, behind: Any) -> None:
                """Emit one window from address `begin` to `out`; the first sample of the next window is at `behind`."""
                samples = {at: builder.load(value) for at, value in carried.items()}
                for at in range(1, count):
                    samples[at] = load(builder, builder.add(begin, builder.mul(step, integer(at))))
                samples[count] = load(builder, behind)
                for number in range(4):  # each step is one sample behind the previous one
                    for at in range(1 - number, count - number, 2):
                        _lift_sample(builder, samples, at, number)
                for at in range(-2, count - 2):
                    base = builder.load(previous) if at < 0 else out
                    store(builder, samples[at], builder.add(base, builder.mul(target_step, integer(at % count))))
                for at, value in carried.items():
                    builder.store(samples[at + count], value)
                builder.store(out, previous)

            with cgutils.for_range(builder, height) as rows:
                begin = builder.add(source, builder.mul(rows.index, line))
                out = builder.add(target, builder.mul(rows.index, target_line))
                # After the last window of a position follows the next position, or the beginning of the line.
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

        return intrinsic_of_integers(8, generate)

    return lift


# With windows of eight samples a pass holds twelve vectors at a time, which sixteen registers of AVX have room for.
lift_two, lift_four, lift_eight, lift_eights = (
    _make_lift(2),
    _make_lift(4),
    _make_lift(8),
    _make_lift(8, several=True),
)
"""Intrinsics for positions of two, four and eight samples, and of a multiple of eight."""
