"""`cdl codec fit`: fits a codec to a source in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasets_prep.cli.options import SourceName, fraction_and_rest
from datasets_prep.job.config import PrepareConfig
from walloc_cdl.cli.console import progress, report
from walloc_cdl.cli.options import JsonPath, LocalFolder, Seed, Threads
from walloc_cdl.cli.planes import codec_plane_table, plane_texts
from walloc_cdl.errors import CallError
from walloc_cdl.machine import wait_without_spinning_if_busy
from walloc_cdl.settings import settings_of

if TYPE_CHECKING:
    from walloc_cdl.codec.families.walloc import WallocCodec
    from walloc_cdl.codec.fit.closed_form import FitReport
    from walloc_cdl.codec.fit.plane_codec import PlaneFitReport

DEFAULT_REDUCTION = 16.0


def _setting(name: str) -> Any:
    """Return the option for a setting that `cdl prepare` has, too."""
    return typer.Option(help=settings_of(PrepareConfig)[name].help)


def fit(
    source: SourceName,
    out: LocalFolder,
    reduction: Annotated[float | None, typer.Option(help="Source values per latent value; default 16.", min=1)] = None,
    latent_channels: Annotated[
        int | None, typer.Option(help="Number of latent channels, instead of a reduction.", min=1)
    ] = None,
    planes: Annotated[
        bool, typer.Option("--planes", help="Fit bit planes in order of importance, in place of 8-bit codes.")
    ] = False,
    max_rate: Annotated[
        float | None,
        typer.Option(help="Bits a pixel, or a time step of audio, of all planes; default 6, or 4 a channel of audio."),
    ] = None,
    channels: Annotated[
        int | None, typer.Option(help="Number of source channels; by default that of the source.")
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(
            help="Wavelet levels; the stride is 2 to this power. Default 3, for audio 8, fewer for many channels.",
            min=1,
            max=12,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Images: pixels a side as in `cdl prepare`, `native` for their own size, or several, such as "
            "128,256,native; default 256.",
            metavar="SIZES",
        ),
    ] = None,
    resize: Annotated[str | None, _setting("resize")] = None,
    crop: Annotated[str | None, _setting("crop")] = None,
    icc: Annotated[str | None, _setting("icc")] = None,
    decoder: Annotated[str | None, _setting("decoder")] = None,
    normalization: Annotated[str | None, _setting("normalization")] = None,
    sample_rate: Annotated[int | None, typer.Option(help="Audio: in Hz; by default that of the clips.", min=1)] = None,
    gain: Annotated[float | None, typer.Option(help="Fix the gain instead of choosing it.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="What the gain is chosen for: raw (bytes, the default) or archive (entropy-coded)."),
    ] = None,
    slope: Annotated[
        float | None,
        typer.Option(
            help="Archives: decibels that one more bit per pixel must gain; default 1, less for many channels."
        ),
    ] = None,
    fraction: Annotated[
        float | None, typer.Option(help="Fraction of the samples to fit to, drawn by --seed; default all.")
    ] = None,
    except_fraction: Annotated[
        float | None, typer.Option(help="Fit to the samples that --fraction F with this --seed leaves out.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split to fit to; by default `train`, or the first.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the codec; by default that of the folder.")] = None,
    threads: Threads = None,
    seed: Seed = 0,
    json_path: JsonPath = None,
) -> None:
    """Fit a codec in closed form to what `cdl prepare` would encode.

    The codec keeps the principal components of wavelet packets. Fitting to hundreds of photos takes seconds.
    """
    wait_without_spinning_if_busy()
    from datasets_prep.codec_fit.fit_inputs import FitInputs, parse_sizes
    from datasets_prep.codec_fit.fit_source import configure_fit, fit_to_source, save_codec
    from datasets_prep.sources import open_source
    from walloc_cdl.codec.codec_files import require_codec_folder

    require_codec_folder(out)
    selected = fraction_and_rest(fraction, except_fraction)
    of_bytes = {
        "reduction": reduction,
        "components": latent_channels,
        "gain": gain,
        "storage": storage or ("archive" if slope is not None else None),
        "slope_db_per_bpp": slope,
    }
    settings = {"planes": True, "max_rate": max_rate} if planes or max_rate is not None else {}
    if settings:
        _refuse_with_planes(of_bytes)
    else:
        settings = {"reduction": DEFAULT_REDUCTION} | {
            key: value for key, value in of_bytes.items() if value is not None
        }
    prepared = {"resize": resize, "crop": crop, "icc": icc, "decoder": decoder, "normalization": normalization}
    inputs = FitInputs(
        None if size is None else parse_sizes(size),
        {key: value for key, value in prepared.items() if value is not None},
    )
    samples = open_source(source)
    config = configure_fit(
        samples,
        channels=channels,
        levels=levels,
        sample_rate=sample_rate,
        name=name or out.name,
        seed=seed,
        **settings,
    )
    with progress("fit", "samples") as update:
        codec, fitted, num_skipped = fit_to_source(
            samples, config, inputs, **selected, split=split, threads=threads, progress=update
        )
    save_codec(codec, out)
    plural = {"image": "images", "array": "arrays", "audio": "clips"}[samples.kind]
    used = f"{fitted.num_signals:,}" + (f", each sample at {inputs.num_sizes} sizes" if inputs.num_sizes > 1 else "")
    rows = {
        "codec": str(out),
        "channels": f"{codec.spec.source_channels} to {codec.spec.latent_channels} at stride {codec.spec.stride}",
        plural: f"{used} ({num_skipped:,} could not be used)" if num_skipped else used,
        **_result_rows(codec, fitted),
        "threads": fitted.threads,
    }
    report(rows, json_path, fitted.to_json())


def _given(values: dict[str, object]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _refuse_with_planes(settings: dict[str, object]) -> None:
    """Raise `CallError` for settings of 8-bit codes."""
    options = {"components": "--latent-channels", "slope_db_per_bpp": "--slope"}
    given = [options.get(name, f"--{name}") for name in _given(settings)]
    if given:
        raise CallError(
            f"{given[-1]} with bit planes, whose bits the fit allots to the channels; omit it, or --planes and "
            "--max-rate"
        )


def _result_rows(codec: WallocCodec, fitted: FitReport | PlaneFitReport) -> dict[str, object]:
    from walloc_cdl.codec.fit.closed_form import FitReport

    if not isinstance(fitted, FitReport):
        table, of = codec_plane_table(codec.spec, codec.config.fit)
        return plane_texts(codec.spec, table, of=of)
    per = "sample" if codec.spec.kind == "audio" else "pixel"
    return {
        "reduction": codec.spec.reduction(),
        "kept energy": fitted.kept_energy,
        "gain": fitted.chosen.gain,
        "PSNR (dB, sample)": fitted.chosen.psnr_db,
        f"bits per {per} (entropy, sample)": fitted.chosen.bpp,
    }
