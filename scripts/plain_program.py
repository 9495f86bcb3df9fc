#!/usr/bin/env python3
"""The plain PyTorch program of many tutorials, as a reference for scripts/benchmark.py.

It uses torchvision's MNIST with ToTensor and Normalize, a DataLoader with batch size 64, a 784-512-10 network with
ReLU, Adam at 1e-3, and a test pass after each epoch. For every line on standard input, it trains one epoch and prints
its seconds and test accuracy. It runs with torch's own settings; actbench's engine is not involved. IMAGES limits both
sets to their first images, for a trial. WORKERS is the DataLoaders' `num_workers`; the default is 0, as in tutorials.

    yes | head -3 | python scripts/plain_program.py DATA_DIR [IMAGES [WORKERS]]
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

MKL_MODE = os.environ.get("MKL_CBWR")
from actbench.datasets import download  # noqa: E402 - after torch, whose libraries have already read their settings

if MKL_MODE is None:
    os.environ.pop("MKL_CBWR", None)


def unpacked(folder: Path, root: Path) -> None:
    """Unpack the files that torchvision needs into `root`."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (folder / "MNIST" / "raw").glob("*ubyte*"):
        data = file.read_bytes()
        (raw / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(data) if file.suffix == ".gz" else data)


def main() -> None:
    """Train one epoch per line of standard input."""
    download.torchvision_datasets()  # imports torchvision, even with a torch that it was not built for
    from torchvision import datasets, transforms

    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    with tempfile.TemporaryDirectory() as root:
        unpacked(Path(sys.argv[1]), Path(root))
        train = datasets.MNIST(root, train=True, transform=normalise)
        test = datasets.MNIST(root, train=False, transform=normalise)
    limit = int(sys.argv[2]) if len(sys.argv) > 2 else len(train)
    if limit < len(train):
        train, test = (torch.utils.data.Subset(images, range(min(limit, len(images)))) for images in (train, test))
    workers = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    train_loader = torch.utils.data.DataLoader(train, batch_size=64, shuffle=True, num_workers=workers)
    test_loader = torch.utils.data.DataLoader(test, batch_size=1000, num_workers=workers)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        model.train()
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
        model.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in test_loader:
                correct += (model(images).argmax(1) == labels).sum().item()
        print(time.perf_counter() - started, correct / len(test), flush=True)


if __name__ == "__main__":
    main()
