"""`PrepareConfig`: how a source is encoded."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from datasets_prep.job.settings import setting, settings_of
from walloc_cdl.errors import CallError

DEFAULT_SEGMENT_S = 5.0


def _check_duration(name: str, seconds: float) -> None:
    if not 0 < seconds < math.inf:
        raise CallError(f"{name} is {seconds:g}; expected a duration above 0 s")


def _check_share(name: str, share: float) -> None:
    if not 0 <= share < 1:
        raise CallError(f"{name} is {share:g}; expected a share from 0 to below 1, as 0.01 or 1%")


def _check_cpus(name: str, cpus: float) -> None:
    if not 0 < cpus < math.inf:
        raise CallError(f"{name} is {cpus:g}; expected a number above 0")


def _check_gpus(name: str, gpus: float) -> None:
    if not (0 <= gpus <= 1 or (gpus < math.inf and gpus == int(gpus))):
        raise CallError(f"{name} is {gpus:g}; expected 0, a share of one GPU as 0.25, or a whole number")


@dataclass(frozen=True)
class PrepareConfig:
    """How a source is encoded; settings for another kind of signal than the source's are refused.

    Each field is the setting's only place here: `cdl prepare` makes its options of them, in their order.
    """

    size: int | None = setting(
        None,
        "Images: pixels a side, shorter side resized to it, center crop; default 256.",
        signal="image",
        remedy="only image files are resized; arrays are cut by ?patch=SIDE, audio by segments",
        decides_size=True,
        least=1,
        most=4096,  # a batch of 32 such crops has 1.6 GB
        most_remedy="geometry ragged, which keeps every image's own size",
    )
    """Pixels a side of the crop of an image, a multiple of the codec's stride, up to 4,096; None is 256."""
    resize: str | None = setting(
        None,
        "Images: lanczos, bicubic, bilinear or box; default lanczos.",
        signal="image",
        remedy="only image files are resized",
        decides_size=True,
        choices=("lanczos", "bicubic", "bilinear", "box"),
    )
    """The kernel by which images are resized. They are PIL's, all antialiased; `box` is the mean of the area that a
    pixel covers. None is `lanczos`."""
    crop: str | None = setting(
        None,
        "Images: center, or pad (longer side resized, edges repeated); default center.",
        signal="image",
        remedy="only image files are cropped; arrays are cut by ?patch=SIDE",
        decides_size=True,
        choices=("center", "pad"),
    )
    """How an image fills the square, see `datasets_prep.decode.images.square`; None is `center`."""
    icc: str | None = setting(
        None,
        "Images: ignore embedded color profiles, or convert to srgb; default ignore.",
        signal="image",
        remedy="only image files have color profiles",
        choices=("ignore", "srgb"),
    )
    """What becomes of images' color profiles, see `datasets_prep.decode.icc`; None is `ignore`."""
    decoder: str | None = setting(
        None,
        "Images: pil, or pil-scaled: large JPEG files at a fraction of their size; default pil.",
        signal="image",
        remedy="only image files are decoded to less than their size",
        decides_size=True,
        choices=("pil", "pil-scaled"),
    )
    """What decodes images, see `datasets_prep.decode.images.load_pixels`; None is `pil`."""
    geometry: str = setting(
        "fixed",
        "fixed, or ragged: images and clips keep their own size, padded to the stride.",
        choices=("fixed", "ragged"),
    )
    """`fixed`: all samples have one size; `ragged`: images and clips keep their own."""
    views: str | None = setting(
        None,
        "Images: variants stored beside the evaluation crop, as flip,crops:4.",
        signal="image",
        remedy="only image files are cropped and mirrored",
    )
    """Views of images that are stored beside the evaluation crop: `flip`, `crops:N`, or both with a comma between."""
    segment_s: float | None = setting(
        None,
        "Audio: seconds of a segment; default 5.",
        signal="audio",
        remedy="only audio is cut into segments",
        decides_size=True,
        check=_check_duration,
        option="segment",
    )
    """Seconds of a segment of audio, rounded down to a multiple of the codec's stride; None is 5."""
    hop_s: float | None = setting(
        None,
        "Audio: seconds from segment to segment; default the segment's length.",
        signal="audio",
        remedy="only audio is cut into segments; arrays take ?hop=PIXELS",
        decides_size=True,
        check=_check_duration,
        option="hop",
    )
    """Seconds from one segment's beginning to the next one's; None is the segment's length."""
    normalization: str | None = setting(
        None,
        "Audio: none, or clip (mean off, loudest sample to full scale); default none.",
        signal="audio",
        remedy="only audio is normalized; arrays take ?range=LOW,HIGH",
        choices=("none", "clip"),
    )
    """How audio is normalized, see `datasets_prep.decode.audio`; None is `none`."""
    shard_samples: int | None = setting(None, "Samples a shard; default 8,192 or 128 MiB of codes.", least=1)
    """Source samples for each shard; None is 8,192 or 128 MiB of codes, whichever is less."""
    workers: int | None = setting(None, "Decoding processes; default one for each CPU, 0 for none.", least=0, most=1024)
    """Decoding processes; 0 decodes in this one, None takes one for each CPU; up to 1,024."""
    batch: int = setting(32, "Samples encoded at once.", least=1, most=4096)
    """Samples encoded at once, up to 4,096."""
    limit: int | None = setting(None, "Only the first so many samples of each split.", least=1)
    """The first so many samples of each split."""
    engine: str = setting("local", "What runs the job: local (processes) or ray (a cluster).", choices=("local", "ray"))
    """What runs the job: `local` processes, or `ray`, tasks on a cluster; see `datasets_prep.job.choose_engine`."""
    address: str | None = setting(None, "Ray: HOST:PORT of a cluster, or local; default the one Ray finds, else local.")
    """The address of the Ray cluster; `local` starts one on this machine. None is the one that Ray finds, else
    `local`."""
    cpus_per_task: float | None = setting(None, "Ray: CPUs for each shard; default 1.", check=_check_cpus)
    """CPUs that Ray gives to each shard that is being made, and as many decoding processes; None is 1."""
    gpus_per_task: float | None = setting(
        None, "Ray: GPUs for each shard, as 0.25; default 1 on a GPU, else 0.", check=_check_gpus
    )
    """GPUs, or a share of one, that Ray gives to each shard; None is 1 where the device is a GPU, else 0."""
    shards: str | None = setting(None, "Only every N-th shard from the I-th: one of N jobs of an array.", metavar="I/N")
    """`i/n`: only every n-th shard, from the i-th, counted from 1; a slice of a job for an array of machines."""
    finish: bool = setting(False, "Complete the data set when all slices are done.")
    """Only the end of a job whose slices are all done; refused while shards are missing."""
    max_bad: float | None = setting(
        None,
        "Fail when more samples are unusable, as 1%; default any.",
        check=_check_share,
        metavar="SHARE",
        is_share=True,
    )
    """The job fails when more than this share of its samples cannot be used; None allows any."""
    drop_duplicates: bool = setting(False, "Store only the first of samples with the same content.")
    """Store only the first of samples with the same content."""
    extend: bool = setting(False, "Add to the finished data set in --out what SOURCE has gained since.")
    """Encode what the source has gained since the data set was made into further shards of it; with `restart` what
    an interrupted extension left is removed first, and nothing else."""
    restart: bool = setting(False, "Discard what an earlier job left in --out.")
    """Remove what an earlier job left in the output folder, finished or not."""
    allow_drift: bool = setting(False, "Go on with a job that other versions or devices began.")
    """Go on with a job that other versions or another kind of device began; the provenance records it."""
    device: str = setting("auto", "auto, cpu, cuda (all GPUs of one kind) or, as cuda:1, one GPU.")
    """A device of torch: `cpu`, `cuda`, which is all GPUs of one kind, or `cuda:1`, that one; `auto` is `cuda` where
    there is a GPU, else `cpu`."""

    def __post_init__(self) -> None:
        for name, each in settings_of(self).items():
            each.require_valid(name, getattr(self, name))
        _check_ray(self)
        if self.geometry == "ragged" and self.views is not None:
            raise CallError(f"views {self.views!r} with geometry ragged; views have one size, so geometry fixed")
        if self.slice is not None and self.finish:
            raise CallError(
                f"--shards {self.shards} with --finish; first run all slices, then --finish without --shards"
            )
        if self.extend and (self.slice is not None or self.finish):
            slices = "--finish" if self.finish else f"--shards {self.shards}"
            raise CallError(f"--extend with {slices}; an extension is one job: omit {slices}")
        if self.restart and (self.slice is not None or self.finish):
            raise CallError(
                "--restart with a slice of a job, or its end, removes what other slices made; remove the folder instead"
            )

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
    """Refuse settings that only Ray has with another engine."""
    for name in ("address", "cpus_per_task", "gpus_per_task"):
        value = getattr(config, name)
        if value is not None and config.engine != "ray":
            raise CallError(f"{name} is {value!r} with engine {config.engine!r}; it goes with engine 'ray'")
