"""`PrepareConfig`: how a source is encoded."""

from __future__ import annotations

import re
from dataclasses import dataclass

from datasets_prep.decode.audio import NORMALIZATIONS
from datasets_prep.decode.icc import PROFILE_CHOICES
from datasets_prep.decode.images import CROPS, DECODERS, KERNELS
from walloc_cdl.errors import CallError, unknown_name

DEFAULT_SEGMENT_S = 5.0
GEOMETRIES = ("fixed", "ragged")

MAX_SIZE = 4096
"""Pixels a side of a crop; a batch of 32 such has 1.6 GB. Larger images are for ragged geometry."""

MAX_BATCH = 4096
MAX_WORKERS = 1024

CHOICES = {
    "resize": tuple(KERNELS),
    "crop": CROPS,
    "icc": PROFILE_CHOICES,
    "decoder": DECODERS,
    "normalization": NORMALIZATIONS,
}
"""Settings that are one of some names."""


@dataclass(frozen=True)
class PrepareConfig:
    """How a source is encoded; settings for another kind of signal than the source's are refused."""

    size: int | None = None
    """Pixels a side of the crop of an image, a multiple of the codec's stride, up to 4,096; None is 256."""
    resize: str | None = None
    """Kernel that images are resized by, one of `datasets_prep.decode.images.KERNELS`; None is `lanczos`."""
    crop: str | None = None
    """Of images: `center`, the default, or `pad`; see `datasets_prep.decode.images.square`."""
    icc: str | None = None
    """What becomes of images' color profiles: `ignore`, the default, or `srgb`; see `datasets_prep.decode.icc`."""
    decoder: str | None = None
    """Of images: `pil`, the default, or `pil-scaled`; see `datasets_prep.decode.images.load_pixels`."""
    geometry: str = "fixed"
    """`fixed`: all samples have one size; `ragged`: images and clips keep their own."""
    views: str | None = None
    """Of images, stored beside the evaluation crop: `flip`, `crops:N`, or both with a comma between."""
    shard_samples: int | None = None
    """Source samples for each shard; None is 8,192 or 128 MiB of codes, whichever is less."""
    workers: int | None = None
    """Decoding processes; 0 decodes in this one, None takes one for each CPU; up to 1,024."""
    batch: int = 32
    """Samples encoded at once, up to 4,096."""
    limit: int | None = None
    """The first so many samples of each split."""
    engine: str = "local"
    """What runs the job: `local` processes, or `ray`, tasks on a cluster; see `datasets_prep.engines`."""
    address: str | None = None
    """Of the Ray cluster; `local` starts one on this machine. None is the one that Ray finds, else `local`."""
    cpus_per_task: float | None = None
    """Of Ray: CPUs for each shard that is being made, and as many decoding processes; None is 1."""
    gpus_per_task: float | None = None
    """Of Ray: GPUs, or a share of one, for each shard; None is 1 where the device is a GPU, else 0."""
    shards: str | None = None
    """`i/n`: only every n-th shard, from the i-th, counted from 1; a slice of a job for an array of machines."""
    finish: bool = False
    """Only the end of a job whose slices are all done; refused while shards are missing."""
    max_bad: float | None = None
    """The job fails when more than this share of its samples cannot be used; None allows any."""
    drop_duplicates: bool = False
    """Store only the first of samples with the same content."""
    allow_drift: bool = False
    """Go on with a job that other versions or another kind of device began; the provenance records it."""
    restart: bool = False
    """Remove what an earlier job left in the output folder, finished or not."""
    extend: bool = False
    """Encode what the source has gained since the data set was made into further shards of it; with `restart` what
    an interrupted extension left is removed first, and nothing else."""
    device: str = "auto"
    """Of torch: `cpu`, `cuda`, which is all GPUs of one kind, or `cuda:1`, that one; `auto` is `cuda` where there is a
    GPU, else `cpu`."""
    segment_s: float | None = None
    """Seconds of a segment of audio, rounded down to a multiple of the codec's stride; None is 5."""
    hop_s: float | None = None
    """Seconds from one segment's beginning to the next one's; None is the segment's length."""
    normalization: str | None = None
    """Of audio: `none`, the default, or `clip`; see `datasets_prep.decode.audio`."""

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("shard_samples", 1), ("workers", 0), ("batch", 1), ("limit", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise CallError(f"{name} is {value}; it must be at least {least}")
        for name, most in (("size", MAX_SIZE), ("batch", MAX_BATCH), ("workers", MAX_WORKERS)):
            value = getattr(self, name)
            if value is not None and value > most:
                remedy = ", or geometry ragged, which keeps every image's own size" if name == "size" else ""
                raise CallError(f"{name} is {value:,}, which would fill the memory; choose at most {most:,}{remedy}")
        _check_ray(self)
        if self.geometry not in GEOMETRIES:
            raise unknown_name("geometry", self.geometry, GEOMETRIES, f"choose one of {', '.join(GEOMETRIES)}")
        if self.geometry == "ragged" and self.views is not None:
            raise CallError(f"views {self.views!r} with geometry ragged; views have one size, so geometry fixed")
        if self.max_bad is not None and not 0 <= self.max_bad < 1:
            raise CallError(f"max_bad is {self.max_bad:g}; expected a share from 0 to below 1, as 0.01 or 1%")
        if self.slice is not None and self.finish:
            raise CallError(
                f"--shards {self.shards} with --finish; first run all slices, then --finish without --shards"
            )
        if self.extend and (self.slice is not None or self.finish):
            slices = "--finish" if self.finish else f"--shards {self.shards}"
            raise CallError(f"--extend with {slices}; an extension is one job: leave {slices} out")
        if self.restart and (self.slice is not None or self.finish):
            raise CallError(
                "--restart with a slice of a job, or its end, removes what other slices made; remove the folder instead"
            )
        for name in ("segment_s", "hop_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise CallError(f"{name} is {value:g}; expected a duration above 0 s")
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise unknown_name(name, value, known, f"choose one of {', '.join(known)}")

    @property
    def slice(self) -> tuple[int, int] | None:
        """The i and n of `shards`; `CallError` unless 1 ≤ i ≤ n."""
        if self.shards is None:
            return None
        found = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", self.shards)
        if not found or int(found[1]) > int(found[2]):
            raise CallError(f"shards is {self.shards!r}; expected i/n with 1 ≤ i ≤ n, as 3/16")
        return int(found[1]), int(found[2])


def _check_ray(config: PrepareConfig) -> None:
    """Refuse settings that only Ray has with another engine, and amounts that it does not take."""
    for name in ("address", "cpus_per_task", "gpus_per_task"):
        value = getattr(config, name)
        if value is not None and config.engine != "ray":
            raise CallError(f"{name} is {value!r} with engine {config.engine!r}; it goes with engine 'ray'")
    if config.cpus_per_task is not None and not 0 < config.cpus_per_task < float("inf"):
        raise CallError(f"cpus_per_task is {config.cpus_per_task:g}; expected a number above 0")
    gpus = config.gpus_per_task
    if gpus is not None and not (0 <= gpus <= 1 or (gpus < float("inf") and gpus == int(gpus))):
        raise CallError(f"gpus_per_task is {gpus:g}; expected 0, a share of one GPU as 0.25, or a whole number")
