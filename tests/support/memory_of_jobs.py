"""Memory of a conversion, over the tree of its processes: `python -m tests.support.memory_of_jobs N WORKERS FOLDER`.

The images are made as they are read, each another; with `stream` as a further argument they come as a stream.
Memory is RssAnon, which leaves out mapped files, summed over this process and its children, twenty times a second.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path

from PIL import Image

from datasets_prep import IterableSource, PrepareConfig, prepare
from datasets_prep.sources.core.source import Source
from datasets_prep.sources.folders.catalog import Catalog, FoundFile
from datasets_prep.sources.folders.imagefolder import ImageFolder
from tests.support.sampled_peak import SampledPeak
from walloc_cdl.codec import ResizeCodec, ResizeConfig

CLASSES = 10


class ManyImages(Source):
    """A folder of `num_rows` images of 16 x 16 pixels, none of which lies on a disk."""

    def __init__(self, num_rows: int) -> None:
        stream = io.BytesIO()
        Image.linear_gradient("L").resize((16, 16)).convert("RGB").save(stream, "BMP")
        self._image = stream.getvalue()
        catalog = Catalog(ImageFolder.file_kind, {})
        for number in range(num_rows):
            label = b"n%08d" % (number * CLASSES // num_rows)
            catalog.add(FoundFile((label, b"%s_%08d.BMP" % (label, number)), len(self._image), regular=True))
        super().__init__("many", catalog.listing("many"))

    def read(self, split: str, index: int) -> bytes:
        """The file, whose last pixel is its number."""
        return self._image[:-3] + index.to_bytes(3, "little")


def tree_bytes() -> int:
    """Memory of this process and its children that is no mapped file, in bytes."""
    own = Path("/proc/self")
    children = (task / "children" for task in (own / "task").iterdir())
    pids = [pid for listing in children for pid in listing.read_text().split()]
    return sum(_anonymous_bytes(process) for process in (own, *(Path("/proc") / pid for pid in pids)))


def _anonymous_bytes(process: Path) -> int:
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def as_they_come(num_samples: int) -> IterableSource:
    """The same images as a stream."""
    image = ManyImages(1).read("train", 0)[:-3]
    names = [b"n%08d" % number for number in range(CLASSES)]
    return IterableSource(
        lambda: ((image + n.to_bytes(3, "little"), n * CLASSES // num_samples) for n in range(num_samples)),
        name="many",
        class_names=[name.decode() for name in names],
    )


def measure(num_samples: int, workers: int, folder: Path, *, streaming: bool = False) -> dict[str, float]:
    """Peak of a conversion of so many samples to a data set in `folder`, and its seconds."""
    codec = ResizeCodec(ResizeConfig(channels=3, factor=4, name="resize-rgb-16x"))
    began = time.monotonic()
    with SampledPeak(tree_bytes) as peak:
        source = as_they_come(num_samples) if streaming else ManyImages(num_samples)
        # the same size of shards for any number, as only then both fill one
        config = PrepareConfig(size=16, shard_samples=1000, workers=workers)
        manifest = prepare(source, codec, folder / "out", config)
    assert manifest is not None
    assert manifest.splits["train"].num_samples == num_samples
    return {"num_samples": num_samples, "peak_bytes": peak.num_bytes, "elapsed_s": time.monotonic() - began}


if __name__ == "__main__":
    settings = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    print(json.dumps(measure(*settings, streaming="stream" in sys.argv[4:])))
