"""Classify stored latents with scikit-learn: no network, no GPU, an answer in seconds.

    cdl prepare imagefolder:DATA/clothing --bytes 12288 --out latents/clothing
    python examples/scikit_learn.py latents/clothing --bytes 3072

The features are what the model input makes of the stored bytes, float numbers of unit variance, pooled over 4 × 4
parts of the picture: means tell its colors, deviations its textures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

import walloc_cdl as cdl


def pooled(x: Tensor, side: int = 4) -> Tensor:
    """Return means and deviations (B, 2 K side²) of a model input (B, K, h, w) over parts of the picture."""
    mean = adaptive_avg_pool2d(x, side)
    deviation = (adaptive_avg_pool2d(x.square(), side) - mean.square()).clamp_min(0).sqrt()
    return torch.cat([mean, deviation], 1).flatten(1)


def features_and_labels(dataset: cdl.LatentDataset, model_input: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Return the features (N, F) and the class numbers (N,) of a split, in its order."""
    loader = cdl.LatentLoader(dataset, 256, shuffle=False, drop_last=False)
    parts = [(pooled(model_input(codes)).numpy(), labels.numpy()) for codes, labels in loader]
    features, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return features, labels


def main(arguments: Sequence[str] | None = None) -> float:
    """Fit on the train split, print the accuracy on the validation split, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a data set of latents")
    parser.add_argument("--bytes", type=int, help="read only this many bytes of each sample")
    settings = parser.parse_args(arguments)

    train_set, test_set = (
        cdl.open_latents(settings.folder, split, bytes=settings.bytes) for split in ("train", "validation")
    )
    # Its statistics are those of the train split, for both.
    model_input = cdl.ModelInput(
        train_set.spec, train_set.statistics, alpha=1.0, levels=train_set.levels, grid=train_set.latent_shape[1:]
    )
    features, labels = features_and_labels(train_set, model_input)
    classifier = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=np.logspace(-4, 0, 5), cv=3, max_iter=300))
    classifier.fit(features, labels)
    accuracy = float(classifier.score(*features_and_labels(test_set, model_input)))
    print(f"accuracy {accuracy:.3f} of {len(test_set)} samples, {features.shape[1]:,} features")
    return accuracy


if __name__ == "__main__":
    main()
