"""Where signals come from: folders, arrays, Hugging Face data sets, parquet files, a built-in sample."""

from __future__ import annotations

from pathlib import Path

from datasets_prep.sources.base import UNKNOWN_LABEL, Source, SplitListing, Stray
from walloc_cdl.errors import CallError, unknown_name

__all__ = ["UNKNOWN_LABEL", "Source", "SplitListing", "Stray", "open_source"]

SCHEMES = ("audiofolder", "hf", "imagefolder", "mat", "npy", "parquet", "sample")
SAMPLES = ("elpv",)
FORMS = "imagefolder:PATH, audiofolder:PATH, npy:PATH, mat:PATH, hf:NAME[:CONFIG], parquet:GLOB or sample:elpv"


def open_source(text: str) -> Source:
    """Open what `text` names: `imagefolder:PATH`, a bare PATH, `hf:NAME[:CONFIG]`, `parquet:GLOB`, `sample:elpv`.

    Also `audiofolder:PATH`, `npy:PATH` and `mat:PATH`; the last two take `?layout=HWC&range=LOW,HIGH&patch=SIDE`
    and more at their end (see `sources.arrays`). `hf` and `parquet` take `?image=COLUMN&label=COLUMN` where a
    data set has several.
    Raises `CallError` for anything that cannot be opened.
    """
    scheme, colon, rest = text.partition(":")
    if Path(text).is_dir() or not colon:
        scheme, rest = "imagefolder", text
    if not rest:
        raise CallError(f"source {text!r} is incomplete; expected {FORMS}")
    if scheme == "imagefolder":
        from datasets_prep.sources.imagefolder import ImageFolder

        return ImageFolder(rest)
    if scheme == "audiofolder":
        from datasets_prep.sources.audiofolder import AudioFolder

        return AudioFolder(rest)
    if scheme in ("npy", "mat"):
        from datasets_prep.sources.arrays import open_arrays

        return open_arrays(scheme, rest)
    if scheme == "webdataset":
        from datasets_prep.sources.webdataset import open_webdataset

        return open_webdataset(rest)
    if scheme == "csv":
        from datasets_prep.sources.csv_table import open_csv

        return open_csv(rest)
    if scheme == "parquet":
        from datasets_prep.sources.parquet import open_parquet

        return open_parquet(rest)
    if scheme == "hf":
        from datasets_prep.sources.huggingface import open_hub

        return open_hub(rest)
    if scheme != "sample":
        raise unknown_name("source scheme", scheme, SCHEMES, f"expected {FORMS}")
    if rest not in SAMPLES:
        raise unknown_name("sample", rest, SAMPLES, "the samples are: elpv")
    from datasets_prep.sources.elpv import ElpvSource

    return ElpvSource()
