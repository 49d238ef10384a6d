"""`cdl codec eval` and `inspect`: measure and draw codecs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

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
    prepared as by `cdl prepare`. Without it:

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
    elif container:
        raise CallError(f"--container {container} with --classifier, which measures stored rows; omit it")
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
    selection = _selection(fraction, except_fraction, seed)
    if classifier is not None:
        measure_fidelity(model, source, classifier, options, selection, json_path)
        return
    signals = native_signals(source, spec.source_channels, spec.stride, sample_rate=spec.sample_rate, **selection)
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


def _selection(fraction: float | None, except_fraction: float | None, seed: int) -> dict[str, Any]:
    """Returns the arguments of `select_samples`."""
    if fraction is not None and except_fraction is not None:
        raise CallError(
            f"--fraction {fraction:g} and --except-fraction {except_fraction:g} select samples in opposite ways; give "
            "one of them"
        )
    if except_fraction is not None:
        return {"fraction": except_fraction, "rest": True, "seed": seed}
    return {"fraction": 1.0 if fraction is None else fraction, "seed": seed}


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
