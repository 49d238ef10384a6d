"""`cdl codec eval` and `inspect`: how good codecs are, in figures and in a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from walloc_cdl.cli.console import progress, report
from walloc_cdl.cli.options import CodecName, ContainerName, JsonPath, Seed, require_parent
from walloc_cdl.errors import CallError


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


def inspect(
    codec: CodecName,
    out: Annotated[Path, typer.Option(help="Picture to write.", callback=require_parent)],
    image: Annotated[
        Path | None, typer.Option(help="Image to encode; by default a photo that scikit-image ships.")
    ] = None,
) -> None:
    """Draw a codec's latents and basis functions.

    One picture: the histogram of the latents, their channels on an image, the basis functions.
    """
    from experiments.codec_picture import draw_codec
    from walloc_cdl.codec import load_codec

    size = draw_codec(load_codec(codec), out, image=image)
    print(f"{out}: {size[0]}x{size[1]}")
