"""Read damaged archives and print what came of it, as JSON: `python -m tests.support.fuzz_archives COUNT SEED`."""

import json
import resource
import sys
import time
import warnings
from collections import Counter

import numpy as np

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents.archive import CONTAINERS, archive_from_bytes, archive_to_bytes
from walloc_cdl.spec import LatentSpec

SPEC = LatentSpec("ab" * 32, "image", 3, 12, 8, 8, "normal")
SIZES = b"0123456789"


def originals(rng) -> list[tuple[str, bytes, np.ndarray]]:
    found = []
    for name in CONTAINERS:
        for height, width in ((1, 1), (8, 12), (32, 32)):
            smooth = np.cumsum(rng.integers(-2, 3, (12, height, width)), axis=2) + 128
            codes = np.clip(smooth, 1, 255).astype(np.uint8)
            shape = (3, 8 * height, 8 * width)
            found.append((name, archive_to_bytes(codes, SPEC, signal_shape=shape, container=name), codes))
    return found


def mutate(data: bytes, rng) -> bytes:
    """One to four changes: bits, bytes, digits of the metadata, sizes, cut or repeated parts."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(changed))) if rng.integers(3) else int(rng.integers(min(len(changed), 700)))
        kind = rng.integers(6)
        if kind == 0:
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            changed[at] = int(rng.integers(256))
        elif kind == 2:
            digits = [place for place, byte in enumerate(changed) if byte in SIZES]
            if digits:
                changed[digits[int(rng.integers(len(digits)))]] = SIZES[int(rng.integers(10))]
        elif kind == 3:
            changed[at : at + 4] = int(rng.integers(2**32)).to_bytes(4, "big")
        elif kind == 4:
            del changed[at : at + int(rng.integers(1, 64))]
        else:
            changed[at:at] = changed[at : at + int(rng.integers(1, 64))]
        if not changed:
            return bytes(changed)
    return bytes(changed)


def main(count: int, seed: int) -> None:
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(seed)
    files = originals(rng)
    for _, data, codes in files:  # what decoders allocate once is no part of the measurement
        assert (archive_from_bytes(data).codes == codes).all()
    outcomes: Counter[str] = Counter()
    worst_s, worst_growth = 0.0, 0
    for number in range(count):
        name, data, codes = files[number % len(files)]
        damaged = mutate(data, rng)
        peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        try:
            right = np.array_equal(archive_from_bytes(damaged, origin="a.file").codes, codes)
            outcomes["right" if right else f"WRONG CODES {name} {number}"] += 1
        except (DamagedError, CallError) as error:
            single = "\n" not in str(error) and str(error).startswith(("a.file", "archive of format"))
            outcomes["refused" if single else f"UNCLEAR {error!r}"] += 1
        except BaseException as error:
            outcomes[f"RAISED {name} {type(error).__name__}: {error}"] += 1
        worst_s = max(worst_s, time.monotonic() - start)
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
        worst_growth = max(worst_growth, grown - 16 * len(damaged))
    print(json.dumps({"outcomes": outcomes, "worst_s": worst_s, "worst_growth_bytes": worst_growth}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
