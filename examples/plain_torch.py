"""Train a classifier on stored latents with a loop of your own: torch and nothing else.

cdl prepare imagefolder:DATA/clothing --bytes 12288 --out latents/clothing
python examples/plain_torch.py latents/clothing --model resnet18 --epochs 10
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy

import classifiers
import walloc_cdl as cdl


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, print the accuracy after each epoch, and return the last one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a data set of latents")
    parser.add_argument("--model", default="resnet18", help="a timm model")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    settings = parser.parse_args(arguments)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    train_set, test_set = (cdl.open_latents(settings.folder, split) for split in ("train", "validation"))
    # Batches come shuffled, and on the device; there are no workers, since there is nothing to decode.
    train_loader = cdl.LatentLoader(train_set, settings.batch_size, device=device)
    test_loader = cdl.LatentLoader(test_set, settings.batch_size, device=device)

    torch.manual_seed(0)
    # The first layers of the model, which are fixed, turn stored bytes into pixels: unpacking, lookup, synthesis.
    model = classifiers.create_model(settings.model, train_set).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, settings.epochs * len(train_loader))

    accuracy = 0.0
    for epoch in range(settings.epochs):
        model.train()
        for codes, labels in train_loader:
            loss = cross_entropy(model(codes), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            correct = sum((model(codes).argmax(1) == labels).sum() for codes, labels in test_loader)
        accuracy = float(correct) / len(test_set)
        print(f"epoch {epoch + 1}: accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
