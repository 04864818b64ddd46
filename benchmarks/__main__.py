"""`make bench`: measure everything in one run of at most ten minutes, and write results.json and results.md.

With --rehearse, tiny sizes in a minute or two, to see that everything works; the results go to build/bench.
"""

import json
import os
import platform
import shutil
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.figures import summarize
from benchmarks.measurements import CONTENDERS, Bench
from benchmarks.stopwatch import CommandError
from benchmarks.table import as_markdown
from benchmarks.workspace import PEERS, PROJECT, Size, find_images
from image_classifier.system.errors import UserError
from image_classifier.system.git import git

FOLDER = PROJECT / "build" / "bench"
COMMITTED = PROJECT / "benchmarks"
PACKAGES = ("torch", "torchvision", "albumentations", "dvc", "mlflow")


@dataclass(frozen=True)
class Plan:
    """How large the measurements are, and for how long rounds of the comparison are repeated."""

    seconds: float
    training: Size  # of each contender
    memory_batches: tuple[int, ...]
    growth: tuple[Size, ...]
    matrix_side: int


FULL = Plan(
    seconds=570,
    training=Size(batch_size=512, width=64, steps=2, epochs=1),
    memory_batches=(128, 256, 512, 1024),
    growth=tuple(Size(batch_size=128, width=32, steps=steps, epochs=4) for steps in (4, 8, 16)),
    matrix_side=4096,
)
REHEARSAL = Plan(
    seconds=0,
    training=Size(batch_size=32, width=8, steps=2, epochs=1),
    memory_batches=(32, 64),
    growth=tuple(Size(batch_size=32, width=8, steps=steps, epochs=2) for steps in (2, 3)),
    matrix_side=512,
)


def main(plan: Plan, destination: Path) -> None:
    """Measure and write the results."""
    started = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    images, dataset = find_images()
    bench = Bench(FOLDER, dataset)

    parts = {
        "growth": [run(f"growth, {size.steps} steps", bench.growth, size) for size in plan.growth],
        "memory": {
            str(size.batch_size): run(f"memory, batch of {size.batch_size}", bench.peak_memory, size)
            for size in (replace(plan.training, batch_size=batch_size) for batch_size in plan.memory_batches)
        },
        "overhead": run("overhead of the stage", bench.overhead, replace(plan.training, epochs=3)),
        "input_pipeline": run("input pipeline", bench.input_pipeline, replace(plan.training, steps=4)),
        "no_op": run("dvc repro with nothing to do", bench.no_op),
    }
    rounds: list[dict[str, Any]] = []
    longest = 0.0
    while not rounds or time.monotonic() - started + longest < plan.seconds:
        round_started = time.monotonic()
        rounds.append(measure_round(bench, plan, len(rounds) + 1))
        longest = max(longest, time.monotonic() - round_started)

    about = {**describe_machine(), "images": images, "training": asdict(plan.training)}
    figures = summarize(rounds, parts, plan.training.batch_size)
    results = {"about": about, "figures": figures, "rounds": rounds, "parts": parts}
    (destination / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    table = as_markdown(about, figures)
    (destination / "results.md").write_text(table, encoding="utf-8")
    print(f"\n{table}\n{(time.monotonic() - started) / 60:.1f} minutes; written to {destination}/results.json and .md")


def measure_round(bench: Bench, plan: Plan, number: int) -> dict[str, Any]:
    """Everyone's turn: figures of one round compare, since the machine is as fast or slow for all of them."""
    return {
        "contenders": {
            name: run(f"round {number}, {name}", bench.contender, name, plan.training) for name in CONTENDERS
        },
        "products": run(f"round {number}, matrix products", bench.products, plan.matrix_side),
        "start_up": run(f"round {number}, start of the stages", bench.start_up),
    }


def run(name: str, measure: Callable[..., Any], *arguments: object) -> Any:
    """Measure, saying what and how long it took."""
    started = time.monotonic()
    print(f"{name}: ", end="", flush=True)
    figures = measure(*arguments)
    print(f"{time.monotonic() - started:.0f} s", flush=True)
    return figures


def describe_machine() -> dict[str, Any]:
    """What the figures hold for."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_at_end": os.getloadavg()[0],
        "packages": {name: version(name) for name in PACKAGES},
        "commit": git("describe", "--always", "--dirty"),
    }


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, results to build/bench")
    rehearse = parser.parse_args().rehearse
    if not PEERS.exists():
        sys.exit(f"error: the libraries to compare with are not in {PEERS}: run `make bench`, which installs them")
    try:
        main(*(REHEARSAL, FOLDER) if rehearse else (FULL, COMMITTED))
    except (CommandError, UserError) as error:
        sys.exit(f"\nerror: {error}")
