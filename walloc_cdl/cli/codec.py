"""`cdl codec …`: list, look at, fit and measure codecs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from walloc_cdl.cli.console import JsonPath, LocalFolder, Seed, progress, report, show_help, write_json
from walloc_cdl.errors import CallError

app = typer.Typer(
    help="List, look at, fit and measure codecs.",
    callback=show_help,
    invoke_without_command=True,
    rich_markup_mode=None,
)

SourceName = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="imagefolder:PATH, or just PATH; hf:NAME, parquet:, webdataset:, csv:, imagenet:, torchvision:, "
        "audiofolder:, npy:, mat: and where; sample:elpv. See docs/sources.md.",
    ),
]
CodecName = Annotated[
    str, typer.Option("--codec", help="A name from `cdl codec list`, a folder, a .pth file, or hub:OWNER/REPO[/FILE].")
]
ContainerName = Annotated[
    str | None,
    typer.Option(
        "--container", help="Of archives: png, webp, tiff or jxl; by default the smallest, see docs/archives.md."
    ),
]


@app.command("list")
def list_codecs(json_path: JsonPath = None) -> None:
    """List the codecs that ship with the package."""
    from walloc_cdl.codec import load_codec, zoo_names

    rows = []
    for name in zoo_names():
        spec = load_codec(name).spec
        rows.append({"name": name, "reduction": spec.reduction(), **spec.to_json()})
        print(
            f"{name:<10}  {spec.source_channels} channels to {spec.latent_channels} at stride {spec.stride}, "
            f"{spec.reduction():g} times fewer values"
        )
    print("resize-gray-Nx, resize-rgb-Nx: resolution reduction to a 1/N of the values, N = 4, 9, 16, 64, …")
    print("resize-mono-Nx, resize-stereo-Nx: audio at a 1/N of its sample rate, N = 2, 3, 4, …")
    write_json(json_path, rows)


@app.command()
def info(codec: CodecName, json_path: JsonPath = None) -> None:
    """Print what a codec is and how it was made."""
    from walloc_cdl.codec import load_codec

    model = load_codec(codec)
    fit_info = getattr(model.config, "fit", {})
    report(
        {"name": model.name, **model.spec.to_json(), **{f"fit.{key}": value for key, value in fit_info.items()}},
        json_path,
    )


@app.command()
def fit(
    source: SourceName,
    out: LocalFolder,
    reduction: Annotated[float, typer.Option(help="Source values for each latent value.", min=1)] = 16,
    latent_channels: Annotated[
        int | None, typer.Option(help="Instead of a reduction, the number of latent channels.", min=1)
    ] = None,
    channels: Annotated[int | None, typer.Option(help="Source channels; by default those of the source.")] = None,
    levels: Annotated[
        int | None,
        typer.Option(
            help="Wavelet levels; the stride is 2 to that power. Default 3, for audio 8, fewer for many channels.",
            min=1,
            max=12,
        ),
    ] = None,
    sample_rate: Annotated[int | None, typer.Option(help="Audio: in Hz; by default the clips' own.", min=1)] = None,
    gain: Annotated[float | None, typer.Option(help="Fix the gain instead of choosing it.")] = None,
    slope: Annotated[
        float | None,
        typer.Option(help="Decibels that a further bit per pixel must be worth; default 1, less for many channels."),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Seeded share of the samples to fit to.")] = 1.0,
    split: Annotated[str | None, typer.Option(help="Split to fit to; by default `train`, or the first.")] = None,
    name: Annotated[str | None, typer.Option(help="What the codec is called; by default the folder's name.")] = None,
    seed: Seed = 0,
    json_path: JsonPath = None,
) -> None:
    """Fit a codec in closed form.

    It keeps the principal components of their wavelet packets. Takes seconds for hundreds of photos.
    """
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
        codec, fitted, num_skipped = fit_to_source(samples, config, fraction=fraction, split=split, progress=update)
    save_codec(codec, out)
    noun = {"image": "images", "array": "arrays", "audio": "clips"}[samples.kind]
    per = "sample" if samples.kind == "audio" else "pixel"
    rows = {
        "codec": str(out),
        "channels": f"{codec.spec.source_channels} to {codec.spec.latent_channels} at stride {codec.spec.stride}",
        "reduction": codec.spec.reduction(),
        noun: f"{fitted.num_signals:,} ({num_skipped} could not be used)" if num_skipped else fitted.num_signals,
        "kept energy": fitted.kept_energy,
        "gain": fitted.chosen.gain,
        "PSNR (dB, sample)": fitted.chosen.psnr_db,
        f"bits per {per} (entropy, sample)": fitted.chosen.bpp,
    }
    report(rows, json_path, fitted.to_json())


@app.command("import")
def import_published(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE.pth", help="A published checkpoint.")],
    out: LocalFolder,
    config: Annotated[
        Path | None, typer.Argument(metavar="[FILE.json]", help="Its configuration; by default the one beside it.")
    ] = None,
    sample_rate: Annotated[int | None, typer.Option(help="In Hz, for audio; published files do not tell it.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Turn a published checkpoint into safetensors and JSON.

    Nothing in the checkpoint is run.
    """
    from walloc_cdl.codec.codec_files import require_codec_folder
    from walloc_cdl.codec.io.published import load_published

    require_codec_folder(out)
    codec = load_published(checkpoint, config, sample_rate=sample_rate)
    codec.save_pretrained(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    report({"codec": str(out), "name": codec.name, **codec.spec.to_json(), "bytes": size}, json_path)


@app.command("eval")
def evaluate(
    codec: CodecName,
    images: Annotated[Path | None, typer.Option(help="Folder of images, sub folders included.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Folder of sound files, sub folders included.")] = None,
    arrays: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Arrays of many channels: npy:PATH or mat:PATH.")
    ] = None,
    except_fraction: Annotated[
        float | None, typer.Option(help="Leave out what `cdl codec fit --fraction F --seed S` fits to.")
    ] = None,
    seed: Seed = 0,
    container: ContainerName = None,
    json_path: JsonPath = None,
) -> None:
    """Measure a codec on images, audio or arrays.

    One of --images, --audio and --arrays is named.

    Images: PSNR, SSIM, MS-SSIM, LPIPS where its weights are at hand, and bits per pixel of archive files.
    Arrays: PSNR and the same bits. Audio: PSNR, signal-to-noise ratio and the codes' entropy per sample. Each
    at its own size, cut to the codec's stride.
    """
    from datasets_prep.codec_fit.native_signals import native_signals
    from datasets_prep.job.choose_preparation import require_channels, require_kind
    from datasets_prep.sources import open_source
    from experiments.rate_distortion import measure_rate_distortion
    from experiments.signal_distortion import measure_arrays, measure_audio
    from walloc_cdl.codec import load_codec

    given = {"imagefolder": images, "audiofolder": audio, "arrays": arrays}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        raise CallError(f"{len(chosen)} of --images, --audio and --arrays given; name one of them")
    model = load_codec(codec)
    spec = model.spec
    source = open_source(arrays or f"{chosen[0]}:{given[chosen[0]]}")
    require_kind(source, model)
    if source.kind == "array":
        require_channels(source, model)
    if container and source.kind == "audio":
        raise CallError(f"container {container} for audio, whose rate is the entropy of the codes; leave it away")
    chosen_container = {"container": container} if container else {}
    rest = {"fraction": except_fraction, "rest": True} if except_fraction is not None else {}
    signals = native_signals(source, spec.source_channels, spec.stride, sample_rate=spec.sample_rate, seed=seed, **rest)
    measure = {"image": measure_rate_distortion, "array": measure_arrays, "audio": measure_audio}[source.kind]
    with progress("eval", "samples") as update:
        done = 0

        def on_signal() -> None:
            nonlocal done
            done += 1
            update(done, len(signals))

        result = measure(model, signals, on_signal=on_signal, **chosen_container)
    skipped = {"num_skipped": signals.num_skipped} if signals.num_skipped else {}
    payload = {"codec": model.name, **result.to_json(), **skipped}
    report(payload | {name: _absence(name) for name, value in payload.items() if value is None}, json_path, payload)


def _absence(name: str) -> str:
    """What to print for a measure that is null."""
    from experiments.image_quality import LPIPS_WEIGHTS, MS_SSIM_SIDE, SSIM_SIDE, lpips_weights

    if name == "psnr_db":
        return "infinite"
    if name == "lpips" and lpips_weights() is None:
        return f"not measured (torch's download folder has no {LPIPS_WEIGHTS})"
    side = {"ssim": SSIM_SIDE, "ms_ssim": MS_SSIM_SIDE}.get(name)
    return f"not measured (no image of at least {side} pixels a side)" if side else "not measured (images too small)"
