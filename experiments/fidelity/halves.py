"""What a frozen classifier sees of images that a codec stores, fitted to either half and measured on the other.

    python -m experiments.fidelity.halves imagefolder:DATA/imagenet-sample --classifier tf_efficientnet_lite0 \\
        --weights out/lite0.safetensors --bytes 3072,6144,12288,24576 --against pixels,jpeg --out out/halves

No image is measured with a codec that was fitted to it. Codecs and results of both halves are kept in --out, where the
same command finds them. Prints the tables over all images, with 95 % intervals of the paired differences.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from classifiers.models.pixel_classifier import PixelClassifier, load_pixel_classifier
from datasets_prep.codec_fit.fit_inputs import FitInputs
from datasets_prep.codec_fit.fit_source import configure_fit, fit_to_source, save_codec
from datasets_prep.codec_fit.source_signals import select_samples
from datasets_prep.job.choose_preparation import choose_preparation
from datasets_prep.job.config import PrepareConfig
from datasets_prep.sources import Source, open_source
from experiments.fidelity.measure import measure_fidelity
from experiments.fidelity.outcome import FidelityOutcome, pool
from experiments.fidelity.plot import plot_outcome
from experiments.fidelity.report import parse_bytes, print_outcome
from experiments.fidelity.samples import PreparedImages
from experiments.fidelity.stored_forms import parse_forms
from walloc_cdl.codec import Codec, load_codec
from walloc_cdl.codec.codec_files import require_codec_folder
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CdlError
from walloc_cdl.files import make_folder
from walloc_cdl.threads import torch_threads

HALF = 0.5


def fit_halves(source: Source, out: Path, *, size: int, seed: int = 0, threads: int | None = None) -> list[Codec]:
    """Fit a codec with bit planes to each half of the images at `size` pixels, or load those that are in `out`."""
    codecs = []
    for number, rest in enumerate((False, True)):
        folder = out / f"half-{number}"
        if not (folder / "config.json").is_file():
            require_codec_folder(folder)
            config = configure_fit(source, name=folder.name, seed=seed, planes=True)
            inputs = FitInputs((size,), {})
            codec, _, _ = fit_to_source(source, config, inputs, fraction=HALF, rest=rest, threads=threads)
            save_codec(codec, folder)
        codecs.append(load_codec(str(folder)))
    return codecs


def measure_halves(
    source: Source,
    codecs: list[Codec],
    classifier: PixelClassifier,
    *,
    size: int,
    budgets: list[int] | None,
    against: str,
    seed: int = 0,
) -> FidelityOutcome:
    """Measure each codec on the half that it was not fitted to; returns the outcome over all images."""
    parts = []
    for number, codec in enumerate(codecs):
        samples = select_samples(source, fraction=HALF, rest=number == 0, seed=seed)
        preparation = choose_preparation(source, codec, PrepareConfig(size=size))
        images = PreparedImages(source, preparation, samples)
        parts.append(measure_fidelity(codec, classifier, images, budgets=budgets, against=parse_forms(against)))
    return pool(parts)


def main(arguments: list[str] | None = None) -> int:
    """Fit, measure, print the tables, and write JSON and plot; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.fidelity.halves", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("source", help="images, as for `cdl prepare`; labels count where the classifier knows them")
    parser.add_argument("--classifier", required=True, help="a timm model")
    parser.add_argument("--weights", type=Path, help="safetensors file of its weights; default the published ones")
    parser.add_argument("--bytes", help="bytes of an image, separated by commas")
    parser.add_argument("--against", default="pixels", help="other forms: pixels, jpeg, webp, avif")
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--crop-share", type=float, help="share of the side that the classifier sees; default its own")
    parser.add_argument("--seed", type=int, default=0, help="of the halves")
    parser.add_argument("--device", help="cpu or cuda; default the GPU if there is one")
    parser.add_argument("--threads", type=int, help="number of torch's threads")
    parser.add_argument("--out", type=Path, required=True, help="folder for codecs, fidelity.json and fidelity.svg")
    options = parser.parse_args(arguments)
    try:
        source = open_source(options.source)
        parse_forms(options.against)  # a wrong name is refused before the fit
        network = load_pixel_classifier(options.classifier, options.weights, crop_share=options.crop_share)
        network.to(choose_device(options.device))
        make_folder(options.out)
        with torch_threads(options.threads):
            codecs = fit_halves(source, options.out, size=options.size, seed=options.seed, threads=options.threads)
            outcome = measure_halves(
                source,
                codecs,
                network,
                size=options.size,
                budgets=parse_bytes(options.bytes),
                against=options.against,
                seed=options.seed,
            )
        print_outcome(outcome, options.out / "fidelity.json")
        plot_outcome(outcome, options.out / "fidelity.svg")
    except CdlError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
