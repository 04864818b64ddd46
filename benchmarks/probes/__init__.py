"""Parts of the product timed from inside, each in a process of its own that prints its figures as a line of JSON."""

import json
import statistics
import time
from collections.abc import Callable, Mapping


def cpu_and_wall(action: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds (user and system, all threads) and seconds on the clock that an action takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def interleaved(actions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Median CPU and wall seconds of each action; all take turns, after one round that does not count."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for _ in range(repeats + 1):
        for name, action in actions.items():
            samples[name].append(cpu_and_wall(action))
    medians = {
        name: [statistics.median(column) for column in zip(*rows[1:], strict=True)] for name, rows in samples.items()
    }
    return {name: {"cpu_seconds": cpu, "wall_seconds": wall} for name, (cpu, wall) in medians.items()}


def report(figures: Mapping[str, object]) -> None:
    """Print the figures for the process that asked."""
    print(json.dumps(figures), flush=True)
