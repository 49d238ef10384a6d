"""`cdl codec fit`: fits a codec to a source in closed form."""

from __future__ import annotations

from typing import Annotated

import typer

from datasets_prep.cli.options import SourceName
from walloc_cdl.cli.console import progress, report
from walloc_cdl.cli.options import JsonPath, LocalFolder, Seed, Threads
from walloc_cdl.machine import wait_without_spinning_if_busy


def fit(
    source: SourceName,
    out: LocalFolder,
    reduction: Annotated[float, typer.Option(help="Source values per latent value.", min=1)] = 16,
    latent_channels: Annotated[
        int | None, typer.Option(help="Number of latent channels, instead of a reduction.", min=1)
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
    sample_rate: Annotated[int | None, typer.Option(help="Audio: in Hz; by default that of the clips.", min=1)] = None,
    gain: Annotated[float | None, typer.Option(help="Fix the gain instead of choosing it.")] = None,
    slope: Annotated[
        float | None,
        typer.Option(help="Decibels that one more bit per pixel must gain; default 1, less for many channels."),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Fraction of the samples to fit to, drawn by --seed.")] = 1.0,
    split: Annotated[str | None, typer.Option(help="Split to fit to; by default `train`, or the first.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the codec; by default that of the folder.")] = None,
    threads: Threads = None,
    seed: Seed = 0,
    json_path: JsonPath = None,
) -> None:
    """Fit a codec in closed form.

    The codec keeps the principal components of wavelet packets. Fitting to hundreds of photos takes seconds.
    """
    wait_without_spinning_if_busy()
    from datasets_prep.codec_fit.fit_source import configure_fit, fit_to_source, save_codec
    from datasets_prep.sources import open_source
    from walloc_cdl.codec.codec_files import require_codec_folder

    require_codec_folder(out)
    samples = open_source(source)
    config = configure_fit(
        samples,
        channels=channels,
        levels=levels,
        sample_rate=sample_rate,
        reduction=reduction,
        components=latent_channels,
        name=name or out.name,
        gain=gain,
        slope_db_per_bpp=slope,
        seed=seed,
    )
    with progress("fit", "samples") as update:
        codec, fitted, num_skipped = fit_to_source(
            samples, config, fraction=fraction, split=split, threads=threads, progress=update
        )
    save_codec(codec, out)
    plural = {"image": "images", "array": "arrays", "audio": "clips"}[samples.kind]
    per = "sample" if samples.kind == "audio" else "pixel"
    rows = {
        "codec": str(out),
        "channels": f"{codec.spec.source_channels} to {codec.spec.latent_channels} at stride {codec.spec.stride}",
        "reduction": codec.spec.reduction(),
        plural: f"{fitted.num_signals:,} ({num_skipped} could not be used)" if num_skipped else fitted.num_signals,
        "kept energy": fitted.kept_energy,
        "gain": fitted.chosen.gain,
        "PSNR (dB, sample)": fitted.chosen.psnr_db,
        f"bits per {per} (entropy, sample)": fitted.chosen.bpp,
        "threads": fitted.threads,
    }
    report(rows, json_path, fitted.to_json())
