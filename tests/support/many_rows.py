"""Plan a simulated folder of any number of images and report time and memory: `python -m tests.support.many_rows N`.

The walk is simulated, with names as ImageNet's; everything after it is what `cdl prepare imagefolder:` does: listing,
class numbers, fingerprint, plan, and parts for workers. Memory is RssAnon, which leaves out mapped files.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from datasets_prep.decode.images import ImagePreparation
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.plan import make_plan
from datasets_prep.sources.core.source import Source
from datasets_prep.sources.folders.catalog import Catalog, FoundFile
from datasets_prep.sources.folders.imagefolder import ImageFolder
from tests.support.sampled_peak import SampledPeak
from walloc_cdl.codec import ResizeCodec, ResizeConfig

CLASSES = 1000


class ManyImages(Source):
    """A folder of `num_rows` images in `CLASSES` folders, none of which exists."""

    def __init__(self, num_rows: int) -> None:
        catalog = Catalog(ImageFolder.file_kind, {})
        for file in _walk(num_rows):
            catalog.add(file)
        super().__init__("many", catalog.listing("many"))
        self._paths = catalog.paths()

    def read(self, split: str, index: int) -> Path:
        """Path of a file that does not exist."""
        return Path(self._paths[split][index])


def _walk(num_rows: int) -> Iterator[FoundFile]:
    for number in range(CLASSES):
        name = b"n%08d" % number
        for row in range(number * num_rows // CLASSES, (number + 1) * num_rows // CLASSES):
            yield FoundFile((name, b"%s_%d.JPEG" % (name, row)), 100_000 + row % 9973, regular=True)


def anonymous_bytes() -> int:
    """Memory of this process that is no mapped file, in bytes."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def measure(num_rows: int) -> dict[str, float]:
    """Seconds of each step, and bytes of memory before and at the peak."""
    codec = ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
    times = [time.perf_counter()]
    with SampledPeak(anonymous_bytes) as peak:
        source = ManyImages(num_rows)
        times.append(time.perf_counter())
        plan = make_plan(source, codec, ImagePreparation(3), PrepareConfig(device="cpu"))
        times.append(time.perf_counter())
        last = plan.shards[-1]
        part = pickle.loads(pickle.dumps(source.part(last.split, last.start, last.stop)))
        times.append(time.perf_counter())
    assert len(part) == last.num_samples
    return {
        "num_rows": plan.num_samples,
        "num_shards": len(plan.shards),
        "listing_s": round(times[1] - times[0], 2),
        "plan_s": round(times[2] - times[1], 2),
        "part_s": round(times[3] - times[2], 3),
        "start_bytes": peak.start_bytes,
        "peak_bytes": peak.num_bytes,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
