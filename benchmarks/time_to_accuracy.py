"""`python -m benchmarks.time_to_accuracy WHO`: how soon a whole training on CIFAR-10 gets how far.

WHO is `page`, Page's recipe in an experienced user's loop; `default`, this project's settings, by `dvc repro train`; or
a recipe of this project. All start from the images in data/cifar10; ours include the sweep. results/timed-WHO gets the
test accuracy and the time after each epoch. 24 epochs take an hour on two cores.
"""

import csv
import os
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measurements import EVALUATED, TUNING
from benchmarks.stopwatch import CommandError, observe
from benchmarks.workspace import PROJECT, environment
from image_classifier.data import load_dataset
from image_classifier.project import locations


def page(data: Path, width: int, epochs: int) -> list[str]:
    """The command that trains as Page did."""
    return [sys.executable, "-m", "benchmarks.peers.page", str(data), str(width), "512", str(epochs)]


def ours(name: str) -> list[str]:
    """The command that trains as this project does."""
    command = ["dvc", "repro", "train"] if name == "default" else ["pipeline.recipe", name]
    return [sys.executable, "-m", *command]


def main(command: Sequence[str], environment: Mapping[str, str], num_images: int, destination: Path) -> None:
    """Train, and write one row for each epoch."""
    seen = observe(command, PROJECT, environment, until=None)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with destination.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["epoch", "test_accuracy", "minutes", "cpu_minutes"])
        evaluated = [(line, times / 60) for line, times in seen.lines if line.startswith(EVALUATED)]
        for epoch, (line, times) in enumerate(evaluated, start=1):
            num_correct = int(line.rpartition("Accuracy: ")[2].partition("/")[0])
            table.writerow([epoch, num_correct / num_images, f"{times.wall:.2f}", f"{times.cpu:.2f}"])


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m benchmarks.time_to_accuracy", description=__doc__)
    parser.add_argument("who", metavar="WHO", help="page, default or a recipe")
    who = parser.parse_args().who
    data = PROJECT / locations.DATA / "cifar10"
    tuned = {**environment(Path(os.devnull)), **TUNING}
    command, variables = (page(data, 64, 24), tuned) if who == "page" else (ours(who), dict(os.environ))
    try:
        main(command, variables, len(load_dataset(data).test_labels), PROJECT / "results" / f"timed-{who}" / "time.csv")
    except CommandError as error:
        sys.exit(f"error: {error}")
