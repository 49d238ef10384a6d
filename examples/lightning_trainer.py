"""Train a classifier on stored latents with Lightning: `LatentLoader` takes the place of a DataLoader.

pip install lightning
cdl prepare imagefolder:DATA/clothing --bytes 12288 --out latents/clothing
python examples/lightning_trainer.py latents/clothing --model resnet18 --epochs 10
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import classifiers
import walloc_cdl as cdl


class LatentModule(lightning.LightningModule):
    """A classifier, its loss and its optimizer."""

    def __init__(self, model: nn.Module, lr: float) -> None:
        super().__init__()
        self.model, self.lr = model, lr
        self.correct, self.seen = 0, 0

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        """Return the loss of a batch (codes, labels)."""
        codes, labels = batch
        return cross_entropy(self.model(codes), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        """Count the correct answers of a batch."""
        codes, labels = batch
        self.correct += int((self.model(codes).argmax(1) == labels).sum())
        self.seen += len(labels)

    def on_validation_epoch_end(self) -> None:
        """Log the accuracy of all batches."""
        self.log("accuracy", self.correct / self.seen, prog_bar=True)
        self.correct, self.seen = 0, 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=0.05)


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, and return the accuracy after the last epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a data set of latents")
    parser.add_argument("--model", default="resnet18", help="a timm model")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    settings = parser.parse_args(arguments)

    lightning.seed_everything(0)
    train_set, test_set = (cdl.open_latents(settings.folder, split) for split in ("train", "validation"))
    module = LatentModule(classifiers.create_model(settings.model, train_set), settings.lr)
    trainer = lightning.Trainer(
        max_epochs=settings.epochs,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    # Lightning moves batches to its device. Each iteration of a loader is the next epoch, with another order.
    trainer.fit(
        module,
        cdl.LatentLoader(train_set, settings.batch_size),
        cdl.LatentLoader(test_set, settings.batch_size),
    )
    accuracy = float(trainer.callback_metrics["accuracy"])
    print(f"accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
