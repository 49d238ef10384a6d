"""Fine-tune a pretrained network at its own size, 224 pixels, on stored latents: no decoder, no workers.

    cdl prepare imagefolder:DATA/clothing --bytes 12288 --out latents/clothing
    cdl weights convert efficientnet-lite0-57934424.pth --model tf_efficientnet_lite0 --out lite0.safetensors
    python examples/fine_tuning.py latents/clothing --model tf_efficientnet_lite0 --weights lite0.safetensors \
        --train-from blocks.6 --out runs/lite0

The layers before `--train-from` are frozen, and what they make of four augmentations of each photo is computed once, so
later epochs take seconds. Started again, the script resumes its run. Without --weights, timm downloads the published
ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import classifiers
import walloc_cdl as cdl
from walloc_cdl.augment.config import PRESETS


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, print the accuracy on the validation split, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a data set of latents")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="a timm model")
    parser.add_argument("--weights", type=Path, help="safetensors file of its weights")
    parser.add_argument("--train-from", default="head", help="train this stage, those after it and the head")
    parser.add_argument("--bytes", type=int, help="read only this many bytes of each sample")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    settings = parser.parse_args(arguments)

    train_set, test_set = (
        cdl.open_latents(settings.folder, split, bytes=settings.bytes) for split in ("train", "validation")
    )

    def pretrained() -> classifiers.LatentClassifier:
        # The size of the input, its mean and deviation are those that the weights expect.
        return classifiers.create_model(settings.model, train_set, pretrained=settings.weights or True)

    config = classifiers.TrainConfig(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        freeze_until=settings.train_from,
        augment=PRESETS["light"],
        augment_variants=4,
    )
    record = classifiers.train(pretrained, train_set, test_set, config, settings.out)
    print(f"accuracy {record.metrics.accuracy:.3f}")
    return record.metrics.accuracy


if __name__ == "__main__":
    main()
