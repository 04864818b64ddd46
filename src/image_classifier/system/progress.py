"""What the console shows of long work: a bar on a terminal, or a plain line every 30 seconds in a log file."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

LINE_SECONDS = 30
LINE = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"

Item = TypeVar("Item")


class LogLines(tqdm):  # type: ignore[type-arg]
    """tqdm for a file: plain lines, `mininterval` seconds apart."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None:  # tqdm passes "" to wipe out its bar
            print(self, flush=True)


def progress(items: Iterable[Item], total: int, description: str, first: int = 0) -> "tqdm[Item]":
    """Pass the items on, and show how many of `total` have come; the rate counts from item `first`."""
    if sys.stdout.isatty():
        return tqdm(items, description, total, initial=first, file=sys.stdout)
    return LogLines(
        items,
        description,
        total,
        initial=first,
        mininterval=LINE_SECONDS,
        delay=LINE_SECONDS,
        miniters=1,
        smoothing=0,
        bar_format=LINE,
        leave=False,
    )
