"""`PrepareConfig`: how a source is encoded."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from walloc_cdl.errors import CallError
from walloc_cdl.machine import cpu_count
from walloc_cdl.settings import setting, settings_of

DEFAULT_SEGMENT_S = 5.0

MAX_SAMPLES_WITHOUT_WORKERS = 128
"""For at most this number of samples, starting workers takes longer than decoding."""


def _check_duration(name: str, seconds: float) -> None:
    if not 0 < seconds < math.inf:
        raise CallError(f"{name} is {seconds:g}; expected a duration above 0 s")


def _check_share(name: str, share: float) -> None:
    if not 0 <= share < 1:
        raise CallError(f"{name} is {share:g}; expected a share from 0 to below 1, such as 0.01 or 1%")


def _check_rate(name: str, bits: float) -> None:
    if not 0 < bits < math.inf:
        raise CallError(f"{name} is {bits:g}; expected bits a pixel, or a time step of audio, above 0, such as 1.5")


def _check_cpus(name: str, cpus: float) -> None:
    if not 0 < cpus < math.inf:
        raise CallError(f"{name} is {cpus:g}; expected a number above 0")


def _check_gpus(name: str, gpus: float) -> None:
    if not (0 <= gpus <= 1 or (gpus < math.inf and gpus == int(gpus))):
        raise CallError(f"{name} is {gpus:g}; expected 0, a share of one GPU such as 0.25, or a whole number")


@dataclass(frozen=True)
class PrepareConfig:
    """Settings of encoding a source. Settings for another kind of signal than the source's are refused.

    Each setting is defined by its field only: `cdl prepare` derives its options from the fields, in their order.
    """

    size: int | None = setting(
        None,
        "Images: pixels a side, shorter side resized to it, center crop; default 256.",
        signal="image",
        remedy="only image files are resized; arrays are cut by ?patch=SIDE, audio by segments",
        determines_size=True,
        minimum=1,
        maximum=4096,  # a batch of 32 such crops has 1.6 GB
        maximum_remedy="geometry ragged, which keeps every image's own size",
    )
    """Pixels a side of the crop of an image, a multiple of the codec's stride, up to 4,096; None is 256."""
    resize: str | None = setting(
        None,
        "Images: lanczos, bicubic, bilinear or box; default lanczos.",
        signal="image",
        remedy="only image files are resized",
        determines_size=True,
        choices=("lanczos", "bicubic", "bilinear", "box"),
    )
    """The kernel for resizing images: one of PIL's kernels, which are all antialiased; `box` is the mean over the area
    of an output pixel. None is `lanczos`."""
    crop: str | None = setting(
        None,
        "Images: center, or pad (longer side resized, edges repeated); default center.",
        signal="image",
        remedy="only image files are cropped; arrays are cut by ?patch=SIDE",
        determines_size=True,
        choices=("center", "pad"),
    )
    """Cropping or padding of an image to the square, see `datasets_prep.decode.images.square`; None is `center`."""
    icc: str | None = setting(
        None,
        "Images: ignore embedded color profiles, or convert to srgb; default ignore.",
        signal="image",
        remedy="only image files have color profiles",
        choices=("ignore", "srgb"),
    )
    """Handling of images' color profiles, see `datasets_prep.decode.icc`; None is `ignore`."""
    decoder: str | None = setting(
        None,
        "Images: pil, or pil-scaled: large JPEG files at a fraction of their size; default pil.",
        signal="image",
        remedy="only image files are decoded to less than their size",
        determines_size=True,
        choices=("pil", "pil-scaled"),
    )
    """The decoder of images, see `datasets_prep.decode.images.load_pixels`; None is `pil`."""
    bytes: int | None = setting(
        None,
        "Bytes of a stored sample, of a codec with bit planes; rounded down to whole planes.",
        minimum=1,
    )
    """Bytes of each view of a stored sample, for a codec with bit planes: the largest number of whole planes that fits
    is stored. None stores all planes of the codec. Samples of ragged geometry and sound have a `bpp`."""
    bpp: float | None = setting(
        None,
        "The same in bits a pixel, or a time step of audio.",
        check=_check_rate,
    )
    """The same budget in bits a pixel, or a time step of audio."""
    geometry: str = setting(
        "fixed",
        "fixed, or ragged: images and clips keep their own size, padded to the stride.",
        choices=("fixed", "ragged"),
    )
    """`fixed`: all samples have one size; `ragged`: images and clips keep their own."""
    views: str | None = setting(
        None,
        "Images: variants stored beside the evaluation crop, such as flip,crops:4.",
        signal="image",
        remedy="only image files are cropped and mirrored",
    )
    """Views of images that are stored beside the evaluation crop: `flip`, `crops:N`, or both, separated by a comma."""
    segment_s: float | None = setting(
        None,
        "Audio: seconds of a segment; default 5.",
        signal="audio",
        remedy="only audio is cut into segments",
        determines_size=True,
        check=_check_duration,
        option="segment",
    )
    """Seconds of a segment of audio, rounded down to a multiple of the codec's stride, or up if `rest` is `pad`; None
    is 5."""
    hop_s: float | None = setting(
        None,
        "Audio: seconds from segment to segment; default the segment's length.",
        signal="audio",
        remedy="only audio is cut into segments; arrays take ?hop=PIXELS",
        determines_size=True,
        check=_check_duration,
        option="hop",
    )
    """Seconds from the start of a segment to the start of the next one; None is the segment's length."""
    rest: str | None = setting(
        None,
        "Audio: drop the end of a clip after its last segment, or pad it to one more; default drop.",
        signal="audio",
        remedy="only audio is cut into segments",
        determines_size=True,
        choices=("drop", "pad"),
    )
    """What becomes of the end of a clip after its last complete segment: `drop`, or `pad`, a segment filled with
    silence. None is `drop`."""
    normalization: str | None = setting(
        None,
        "Audio: none, or clip (subtract the mean, scale the peak to full scale); default none.",
        signal="audio",
        remedy="only audio is normalized; arrays take ?range=LOW,HIGH",
        choices=("none", "clip"),
    )
    """Normalization of audio, see `datasets_prep.decode.audio`; None is `none`."""
    shard_samples: int | None = setting(None, "Samples per shard; default 8,192 or 128 MiB of codes.", minimum=1)
    """Source samples per shard; None is 8,192 or 128 MiB of codes, whichever is less."""
    workers: int | None = setting(
        None, "Decoding processes; default one for each CPU, 0 for none.", minimum=0, maximum=1024
    )
    """Decoding processes, up to 1,024; 0 decodes in the calling process, None starts one for each CPU."""
    batch: int = setting(32, "Samples encoded at once.", minimum=1, maximum=4096)
    """Samples encoded at once, up to 4,096."""
    limit: int | None = setting(
        None,
        "Encode at most this many samples of each split, the same share of each class, drawn by --seed.",
        minimum=1,
    )
    """Only this number of samples of each split, see `datasets_prep.sources.core.limits`; None encodes all."""
    seed: int = setting(0, "Seed of the random choices of --limit and --holdout.", minimum=0)
    """The seed by which the samples of `limit` are drawn."""
    engine: str = setting("local", "What runs the job: local (processes) or ray (a cluster).", choices=("local", "ray"))
    """The engine that runs the job: `local` processes, or `ray`, tasks on a cluster."""
    address: str | None = setting(None, "Ray: HOST:PORT of a cluster, or local; default the one Ray finds, else local.")
    """Address of the Ray cluster; `local` starts one on this machine. None is the cluster that Ray finds, else
    `local`."""
    cpus_per_task: float | None = setting(None, "Ray: CPUs for each shard; default 1.", check=_check_cpus)
    """CPUs that Ray reserves for each task, which makes one shard, and the number of its decoding processes; None is
    1."""
    gpus_per_task: float | None = setting(
        None, "Ray: GPUs for each shard, such as 0.25; default 1 on a GPU, else 0.", check=_check_gpus
    )
    """GPUs, or a share of one, that Ray reserves for each task; None is 1 if the device is a GPU, else 0."""
    shards: str | None = setting(None, "Only every N-th shard from the I-th: one of N jobs of an array.", metavar="I/N")
    """`i/n`: only every n-th shard, starting with the i-th, counted from 1: one slice of a job for an array of
    machines."""
    finish: bool = setting(False, "Complete the data set when all slices are done.")
    """Only complete a job whose slices are all done; refused while shards are missing."""
    max_bad: float | None = setting(
        None,
        "Fail when more samples are unusable, such as 1%; default any.",
        check=_check_share,
        metavar="SHARE",
        is_share=True,
    )
    """Largest share of unusable samples, above which the job fails; None allows any."""
    unreadable: str = setting(
        "stop",
        "Samples that were listed but cannot be read (missing, forbidden, I/O error): stop, or quarantine.",
        choices=("stop", "quarantine"),
    )
    """What to do with a sample that the source was listed with and that the system cannot read (missing, forbidden, an
    I/O error, no network): `stop` the job, which can be resumed, or `quarantine` it. See
    `datasets_prep.job.read_failures`."""
    drop_duplicates: bool = setting(False, "Store only the first of samples with the same content.")
    """Whether only the first of several samples with the same content is stored."""
    extend: bool = setting(False, "Add new samples of SOURCE to the finished data set in --out.")
    """Encode the source's new samples into additional shards of a finished data set; with `restart`, only the files of
    an interrupted extension are removed first."""
    restart: bool = setting(False, "Discard what an earlier job left in --out.")
    """Remove the files of an earlier job in the output folder, finished or not."""
    allow_drift: bool = setting(False, "Continue a job that was started with other versions or another device.")
    """Continue a job that was started with other versions or another kind of device; the provenance records it."""
    device: str = setting("auto", "auto, cpu, cuda (all GPUs of one kind) or one GPU, such as cuda:1.")
    """A device of torch: `cpu`, `cuda` (all GPUs of one kind), or one GPU such as `cuda:1`; `auto` is `cuda` if there
    is a GPU, else `cpu`."""

    def __post_init__(self) -> None:
        for name, each in settings_of(self).items():
            each.require_valid(name, getattr(self, name))
        _check_ray(self)
        if self.bytes is not None and self.bpp is not None:
            raise CallError(f"bytes is {self.bytes:,} and bpp is {self.bpp:g}; they are one budget: omit one of them")
        if self.geometry == "ragged" and self.views is not None:
            raise CallError(f"views {self.views!r} with geometry ragged; views have one size: omit one of them")
        if self.slice is not None and self.finish:
            raise CallError(
                f"--shards {self.shards} with --finish; first run all slices, then --finish without --shards"
            )
        if self.extend and (self.slice is not None or self.finish):
            slices = "--finish" if self.finish else f"--shards {self.shards}"
            raise CallError(f"--extend with {slices}; an extension is one job: omit {slices}")
        if self.restart and (self.slice is not None or self.finish):
            raise CallError(
                "--restart with a slice of a job, or its end, would remove the shards of other slices; remove the "
                "folder instead"
            )

    @property
    def slice(self) -> tuple[int, int] | None:
        """The i and n of `shards`; raises `CallError` unless 1 ≤ i ≤ n."""
        if self.shards is None:
            return None
        found = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", self.shards)
        if not found or int(found[1]) > int(found[2]):
            raise CallError(f"shards is {self.shards!r}; expected i/n with 1 ≤ i ≤ n, such as 3/16")
        return int(found[1]), int(found[2])


def choose_workers(config: PrepareConfig, num_samples: int) -> int:
    """Return the number of decoding processes for a job of `num_samples` samples."""
    if config.workers is not None:
        return config.workers
    return cpu_count() if num_samples > MAX_SAMPLES_WITHOUT_WORKERS else 0


def _check_ray(config: PrepareConfig) -> None:
    """Raise `CallError` for settings of Ray with another engine."""
    for name in ("address", "cpus_per_task", "gpus_per_task"):
        value = getattr(config, name)
        if value is not None and config.engine != "ray":
            raise CallError(f"{name} is {value!r} with engine {config.engine!r}; it needs engine 'ray'")
