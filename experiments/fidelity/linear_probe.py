"""A linear classifier on a frozen network's features, trained and tested on images as each form stores them.

    python -m experiments.fidelity.linear_probe imagefolder:DATA/textures --codec rgb \\
        --classifier tf_efficientnet_lite0 --weights weights.safetensors --bytes 768,3072,12288

For each form and number of bytes, features of the restored images are computed, a logistic regression is trained on
those of the training images, and tested on the others. So the question is another one than that of `cdl codec eval
--classifier`: not whether a network that knows nothing of the codec sees the same, but whether what decides the classes
of a data set is still there. Its tables are the same; `same class` compares with the regression on the originals.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from classifiers.models.pixel_classifier import PixelClassifier, load_pixel_classifier
from classifiers.probe.heads import HEADS, fit_head
from datasets_prep.codec_fit.source_signals import select_samples
from datasets_prep.job.choose_preparation import choose_preparation
from datasets_prep.job.config import PrepareConfig
from datasets_prep.sources import Source, open_source
from datasets_prep.sources.core.source import CLASSES
from experiments.fidelity.measure import choose_forms, make_outcome
from experiments.fidelity.observe import observe
from experiments.fidelity.outcome import FidelityOutcome
from experiments.fidelity.plot import plot_outcome, require_picture
from experiments.fidelity.report import parse_bytes, print_outcome
from experiments.fidelity.samples import PreparedImages
from experiments.fidelity.stored_forms import StoredForm, parse_forms
from walloc_cdl.codec import Codec, load_codec
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CallError, CdlError
from walloc_cdl.threads import torch_threads

TEST_SPLITS = ("test", "validation")
PENALTIES = tuple(10.0**power for power in range(-5, 2))
"""Values of C, the inverse of the penalty on the weights of standardized features, that cross-validation tries."""
INNER_FOLDS = 5


def probe(
    codec: Codec,
    classifier: PixelClassifier,
    images: PreparedImages,
    *,
    budgets: Sequence[int] | None = None,
    against: Sequence[StoredForm] = (),
    folds: int | None = None,
    seed: int = 0,
    on_image: Callable[[int, int], object] | None = None,
) -> FidelityOutcome:
    """Compute features of all images in each form, and the classes that a linear classifier predicts from them.

    It is trained on the split `train` and tested on `test` or `validation`, or with `folds` cross-validated over all
    images, which every split joins. The outcome has the tested images. Raises `CallError` for a source without classes
    or without a test split, and as `measure_fidelity` does.
    """
    source = images.source
    if source.class_names is None or source.listing.label_kind != CLASSES:
        raise CallError(f"{source.name} has no classes to train a classifier on; give a folder for each class")
    if folds is not None and folds < 2:
        raise CallError(f"{folds} folds; give at least 2")
    forms, chosen = choose_forms(codec, images, budgets, against)
    used, originals, observations = observe(images, forms, chosen, classifier.features, on_image=on_image)
    labels = np.array([source.label(*sample) for sample in used])
    parts = _parts(source, used, labels, folds, seed)
    tested = np.concatenate([test for _, test in parts])

    def predictions(features: np.ndarray) -> np.ndarray:
        return np.concatenate([predict_linear(features, labels, *part, seed=seed) for part in parts])

    for observation in observations:
        observation.num_bytes = [observation.num_bytes[place] for place in tested]
        observation.psnr_db = [observation.psnr_db[place] for place in tested]
    return make_outcome(
        codec.name,
        f"logistic regression on {classifier.name}",
        images,
        [used[place] for place in tested],
        labels[tested],
        predictions(originals),
        [(each, predictions(each.joined())) for each in observations],
        {
            "input": list(classifier.input_size),
            "crop_share": classifier.crop_share,
            "num_train": [len(train) for train, _ in parts],
            "folds": folds,
            "seed": seed,
        },
    )


def predict_linear(
    features: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, *, seed: int = 0
) -> np.ndarray:
    """Train a logistic regression on the samples `train`, and return the classes that it predicts of `test`.

    Features (N, F) are standardized; the penalty is chosen from `PENALTIES` by cross-validation within `train`.
    """
    fitted = fit_head(
        HEADS["logistic"],
        features[train].astype(np.float64),
        labels[train],
        values=PENALTIES,
        folds=INNER_FOLDS,
        scoring="neg_log_loss",
        seed=seed,
    )
    return fitted.predict(features[test].astype(np.float64))


def _parts(
    source: Source, used: Sequence[tuple[str, int]], labels: np.ndarray, folds: int | None, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the places of training and tested images, once, or for each fold."""
    splits = np.array([split for split, _ in used])
    known = labels >= 0
    if folds is not None:
        from sklearn.model_selection import StratifiedKFold

        places = np.flatnonzero(known)
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return [(places[train], places[test]) for train, test in splitter.split(places, labels[places])]
    test_split = next((name for name in TEST_SPLITS if name in source.split_names), None)
    if test_split is None or "train" not in source.split_names:
        raise CallError(
            f"{source.name} has the splits {', '.join(source.split_names)}; give folders train and test, or --folds"
        )
    return [(np.flatnonzero(known & (splits == "train")), np.flatnonzero(known & (splits == test_split)))]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the tables, and write JSON and plot; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.fidelity.linear_probe", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("source", help="labeled images, as for `cdl prepare`")
    parser.add_argument("--codec", required=True, help="a name from `cdl codec list`, or a folder")
    parser.add_argument("--classifier", required=True, help="a timm model whose features are used")
    parser.add_argument("--weights", type=Path, help="safetensors file of its weights; default the published ones")
    parser.add_argument("--bytes", help="bytes of an image, separated by commas; see `cdl codec eval --bytes`")
    parser.add_argument("--against", default="pixels", help="other forms: pixels, jpeg, webp, avif")
    parser.add_argument("--size", type=int, help="pixels a side; default 256")
    parser.add_argument("--folds", type=int, help="cross-validate over all splits, in place of train and test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu or cuda; default the GPU if there is one")
    parser.add_argument("--threads", type=int, help="number of torch's threads")
    parser.add_argument("--plot", type=Path, help="picture to write")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    try:
        if options.plot is not None:
            require_picture(options.plot)
        codec, source = load_codec(options.codec), open_source(options.source)
        preparation = choose_preparation(source, codec, PrepareConfig(size=options.size))
        images = PreparedImages(source, preparation, select_samples(source))
        network = load_pixel_classifier(options.classifier, options.weights).to(choose_device(options.device))
        with torch_threads(options.threads):
            outcome = probe(
                codec,
                network,
                images,
                budgets=parse_bytes(options.bytes),
                against=parse_forms(options.against),
                folds=options.folds,
                seed=options.seed,
            )
        print_outcome(outcome, options.json)
        if options.plot is not None:
            plot_outcome(outcome, options.plot)
    except CdlError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
