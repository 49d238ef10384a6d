"""`cdl codec eval` and `inspect`: measure and draw codecs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datasets_prep.cli.options import fraction_and_rest
from experiments.cli.fidelity import (
    Against,
    Budgets,
    ClassifierName,
    Crop,
    CropShare,
    Device,
    FidelityOptions,
    NumThreads,
    PlotPath,
    Resize,
    Size,
    Weights,
)
from experiments.cli.fidelity import measure as measure_fidelity
from walloc_cdl.cli.console import progress, report, show
from walloc_cdl.cli.options import CodecName, ContainerName, JsonPath, Seed, require_parent
from walloc_cdl.errors import CallError
from walloc_cdl.machine import wait_without_spinning_if_busy

if TYPE_CHECKING:
    from datasets_prep.codec_fit.source_signals import SourceSignals
    from walloc_cdl.codec import Codec


def evaluate(
    codec: CodecName,
    images: Annotated[Path | None, typer.Option(help="Folder of images, including subfolders.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Folder of audio files, including subfolders.")] = None,
    arrays: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Arrays of many channels: npy:PATH or mat:PATH.")
    ] = None,
    except_fraction: Annotated[
        float | None, typer.Option(help="Leave out the samples that `cdl codec fit --fraction F --seed S` uses.")
    ] = None,
    fraction: Annotated[
        float | None, typer.Option(help="Measure the samples that `cdl codec fit --fraction F --seed S` uses.")
    ] = None,
    seed: Seed = 0,
    container: ContainerName = None,
    bpp: Annotated[
        str | None,
        typer.Option(
            metavar="RATES",
            help="Measure rows that are stored raw, at these bits a pixel or time step, such as 0.75,1.5,3. Codecs "
            "without bit planes have one rate: give `all`.",
        ),
    ] = None,
    classifier: ClassifierName = None,
    weights: Weights = None,
    budgets: Budgets = None,
    against: Against = None,
    size: Size = None,
    resize: Resize = None,
    crop: Crop = None,
    crop_share: CropShare = None,
    device: Device = None,
    threads: NumThreads = None,
    plot: PlotPath = None,
    json_path: JsonPath = None,
) -> None:
    """Measure a codec on images, audio or arrays.

    Give one of --images, --audio and --arrays.

    With --classifier: the share of images on which a frozen network predicts the same class as on the original, and
    top-1 where the class is known, at several numbers of bytes, with paired differences and 95 % intervals. Images are
    prepared as by `cdl prepare`.

    With --bpp: PSNR of rows that are stored raw, without entropy coding, at several rates. Without either:

    Images: PSNR, SSIM, MS-SSIM, LPIPS if its weights are available, and bits per pixel of archive files.
    Arrays: PSNR and bits per pixel. Audio: PSNR, signal-to-noise ratio and entropy of the codes per sample. Samples
    keep their own size, cropped to a multiple of the codec's stride.
    """
    wait_without_spinning_if_busy()
    from datasets_prep.codec_fit.source_signals import native_signals
    from datasets_prep.job.choose_preparation import require_channels, require_kind
    from datasets_prep.sources import open_source
    from experiments.rate_distortion import measure_rate_distortion
    from experiments.signal_distortion import measure_arrays, measure_audio
    from walloc_cdl.codec import load_codec

    options = FidelityOptions(
        weights, budgets, against, size, resize, crop, crop_share, device=device, threads=threads, plot=plot
    )
    if classifier is None:
        options.require_none()
    elif container or bpp:
        option = f"--container {container}" if container else f"--bpp {bpp}"
        raise CallError(f"{option} with --classifier, which measures stored rows of given --bytes; omit it")
    if bpp and container:
        raise CallError(f"--container {container} with --bpp, which measures rows that are stored raw; omit it")
    given = {"imagefolder": images, "audiofolder": audio, "arrays": arrays}
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise CallError(f"{len(names)} of --images, --audio and --arrays given; give exactly one of them")
    model = load_codec(codec)
    spec = model.spec
    source = open_source(arrays or f"{names[0]}:{given[names[0]]}")
    require_kind(source, model)
    if source.kind == "array":
        require_channels(source, model)
    if container and source.kind == "audio":
        raise CallError(
            f"--container {container} does not apply to audio, whose rate is the entropy of the codes; omit it"
        )
    container_option = {"container": container} if container else {}
    selection = {"seed": seed, **fraction_and_rest(fraction, except_fraction)}
    if classifier is not None:
        measure_fidelity(model, source, classifier, options, selection, json_path)
        return
    signals = native_signals(source, spec.source_channels, spec.stride, sample_rate=spec.sample_rate, **selection)
    if bpp is not None:
        _report_stored(model, signals, _rates(bpp), json_path)
        return
    measure = {"image": measure_rate_distortion, "array": measure_arrays, "audio": measure_audio}[source.kind]
    with progress("eval", "samples") as update:
        done = 0

        def on_signal() -> None:
            nonlocal done
            done += 1
            update(done, len(signals))

        result = measure(model, signals, on_signal=on_signal, **container_option)
    skipped = {"num_skipped": signals.num_skipped} if signals.num_skipped else {}
    payload = {"codec": model.name, **result.to_json(), **skipped}
    report(
        payload | {name: _missing_text(name) for name, value in payload.items() if value is None}, json_path, payload
    )


def _rates(text: str) -> list[float]:
    """Returns the rates of `--bpp`, none for `all`."""
    try:
        return [] if text == "all" else [float(part) for part in text.split(",")]
    except ValueError as error:
        raise CallError(f"--bpp {text!r}; expected numbers such as 0.75,1.5,3, or all") from error


def _report_stored(codec: Codec, signals: SourceSignals, rates: Sequence[float], json_path: Path | None) -> None:
    """Measure raw rows, print a line for each rate, and write JSON."""
    from experiments.stored_quality import at_rates, measure_stored

    codecs = at_rates(codec, rates)
    with progress("eval", "samples") as update:
        points = measure_stored(codecs, signals, on_signal=lambda: update(signals.num_done, len(signals)))
    unit = "time step" if codec.kind == "audio" else "pixel"
    rows: dict[str, object] = {"codec": codec.name, "samples": signals.num_done - signals.num_skipped}
    for point in points:
        planes = f"{point.num_planes} planes, " if point.num_planes else ""
        rows[f"{point.bits:.4g} bits a {unit}"] = f"{point.psnr_db:.2f} dB, {planes}{point.latent_channels} channels"
    payload = {
        "codec": codec.name,
        "codec_id": codec.spec.codec_id,
        "num_samples": signals.num_done - signals.num_skipped,
        "points": [point.to_json() for point in points],
    }
    report(rows, json_path, payload)


def _missing_text(name: str) -> str:
    """Returns the text to print for a measure whose value is None."""
    from experiments.image_quality import LPIPS_WEIGHTS, MS_SSIM_SIDE, SSIM_SIDE, lpips_weights

    if name == "psnr_db":
        return "infinite"
    if name == "lpips" and lpips_weights() is None:
        return f"not measured (torch's download folder has no {LPIPS_WEIGHTS})"
    side = {"ssim": SSIM_SIDE, "ms_ssim": MS_SSIM_SIDE}.get(name)
    return f"not measured (no image of at least {side} × {side} pixels)" if side else "not measured (images too small)"


def inspect(
    codec: CodecName,
    out: Annotated[Path, typer.Option(help="Picture to write.", callback=require_parent)],
    image: Annotated[
        Path | None, typer.Option(help="Image to encode; by default a photo that scikit-image ships.")
    ] = None,
) -> None:
    """Draw a codec's latents and basis functions.

    The picture has the histogram of the latents, the channels of an encoded image, and the basis functions.
    """
    from experiments.codec_picture import draw_codec
    from walloc_cdl.codec import load_codec

    size = draw_codec(load_codec(codec), out, image=image)
    show(f"{out}: {size[0]}x{size[1]}")
