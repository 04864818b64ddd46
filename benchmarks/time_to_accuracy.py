"""`python -m benchmarks.time_to_accuracy`: how soon Page's recipe gets how far, in an experienced user's loop.

It trains on CIFAR-10 in data/cifar10 for 24 epochs, which is an hour on two cores, and writes the test accuracy and the
time after each epoch to results/amd-page-24-epochs, or to another folder. The product's own times are in its records.
"""

import csv
import os
import sys
from argparse import ArgumentParser
from pathlib import Path

from benchmarks.measurements import EVALUATED, TUNING
from benchmarks.stopwatch import CommandError, observe
from benchmarks.workspace import PROJECT, environment
from cifar_resnet import layout
from cifar_resnet.data import load_dataset


def main(data: Path, width: int, epochs: int, destination: Path) -> None:
    """Train, and write one row for each epoch."""
    command = [sys.executable, "-m", "benchmarks.peers.page", str(data), str(width), "512", str(epochs)]
    seen = observe(command, PROJECT, {**environment(Path(os.devnull)), **TUNING}, until=None)
    num_images = len(load_dataset(data).test_labels)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with destination.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["epoch", "test_accuracy", "minutes", "cpu_minutes"])
        evaluated = [(line, times / 60) for line, times in seen.lines if line.startswith(EVALUATED)]
        for epoch, (line, times) in enumerate(evaluated, start=1):
            accuracy = int(line.rpartition(" ")[2]) / num_images
            table.writerow([epoch, accuracy, f"{times.wall:.2f}", f"{times.cpu:.2f}"])


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m benchmarks.time_to_accuracy", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=PROJECT / "results" / "amd-page-24-epochs")
    try:
        main(PROJECT / layout.DATA / "cifar10", 64, 24, parser.parse_args().folder / "train" / "history.csv")
    except CommandError as error:
        sys.exit(f"error: {error}")
