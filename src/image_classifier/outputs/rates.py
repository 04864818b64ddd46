"""The sweep of stage `lr_find` and the rates it found, as files."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from image_classifier.system.errors import UserError
from image_classifier.system.files import replacing, write_json


@dataclass(frozen=True)
class LRSweep:
    """What a sweep measured: one learning rate, loss and smoothed loss per step."""

    lrs: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    smoothed: tuple[float, ...] = ()

    def write_csv(self, path: Path) -> None:
        with replacing(path) as new, new.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", "lr", "loss", "smoothed_loss"])
            writer.writerows(zip(range(len(self.lrs)), self.lrs, self.losses, self.smoothed, strict=True))


def read_sweep(path: Path) -> LRSweep:
    """Read what `LRSweep.write_csv` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return LRSweep(*(tuple(float(row[name]) for row in rows) for name in ("lr", "loss", "smoothed_loss")))


@dataclass(frozen=True)
class FoundRates:
    """The learning rates that a sweep suggests."""

    lr_min: float
    lr_max: float
    rule: str
    suggestions: dict[str, float]  # of every rule

    def write_json(self, path: Path) -> None:
        write_json(path, vars(self))


class NoRatesError(UserError):
    """The sweep shows no learning rates."""


def read_found_rates(path: Path) -> FoundRates:
    """Read what stage lr_find wrote; a UserError if there is nothing yet, a NoRatesError if the sweep showed none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro lr_find`") from None
    if reason := found.get("not_found"):
        raise NoRatesError(f"{reason}; or give train.lr_min and train.lr_max as numbers")
    return FoundRates(**found)
