"""`python -m benchmarks.many_seeds NAME N`: many seeds of one recipe on a GPU, several at once, without the stages.

NAME is a recipe, or `default` for params.yaml as it is. `pipeline.seeds` gives each seed all five stages, MLflow and
DVC, which take longer than a training on a fast GPU. Here one sweep finds the learning rates, as stage lr_find does,
and the trainings use them. results/gpu-NAME-seeds gets what was found, and a row for each epoch of each seed.
"""

import csv
import multiprocessing
import time
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from sys import stderr
from typing import Any

from benchmarks import trainings
from benchmarks.trainings import changed
from benchmarks.workspace import PROJECT
from image_classifier.data import Dataset, load_dataset
from image_classifier.model.compute import prepare_compute
from image_classifier.outputs.rates import FoundRates
from image_classifier.project import locations
from image_classifier.project.params import Params, load_params
from image_classifier.project.recipes import read_recipe
from image_classifier.training.loop import make_training_data
from image_classifier.training.lr_range import find_rates
from pipeline.lr_find import run_sweep

WORKERS = 3  # loader processes for each training, where runtime.workers is auto
SIDE_BY_SIDE = {"compute": {"compile": "off", "threads": 1}}  # compiling takes longer than a training
Rows = list[dict[str, Any]]


def main(name: str, count: int, processes: int, destination: Path) -> None:
    """Find the rates, train, and write each seed's history once it has ended."""
    params = changed(load_params(locations.PARAMS), SIDE_BY_SIDE, {} if name == "default" else read_recipe(name))
    found = sweep(params)
    (destination / "lr_find").mkdir(parents=True, exist_ok=True)
    found.write_json(destination / locations.LR_FOUND.relative_to(locations.REPORTS))
    settings = [changed(params, {"train": {"seed": seed, **rates(found)}}) for seed in range(count)]
    seeds = enumerate(train_all(settings, processes))
    write_rows(destination / "history.csv", ([{"seed": seed, **row} for row in rows] for seed, rows in seeds))


def rates(found: FoundRates) -> dict[str, float]:
    """The ends of the cycle as settings of section `train`."""
    return {"lr_min": found.lr_min, "lr_max": found.lr_max}


def sweep(params: Params) -> FoundRates:
    """What stage lr_find finds."""
    dataset, compute = read_dataset(params.data.dataset), prepare_compute(params.compute)
    data = make_training_data(dataset, params.data, params.augment)
    return find_rates(
        run_sweep(dataset, data, params.model, params.lr_find, params.train, compute), params.lr_find.rule
    )


def train_all(settings: Iterable[Params], processes: int) -> Iterator[Rows]:
    """The rows of each training, in order, from several processes on one GPU."""
    spawn = multiprocessing.get_context("spawn")  # CUDA allows no other
    with ProcessPoolExecutor(processes, spawn, fork_loaders) as pool:
        yield from pool.map(train, settings)


def fork_loaders() -> None:
    """Let this process fork its loaders, which use no CUDA; else it would spawn them as it was, 5 s for each epoch."""
    multiprocessing.set_start_method("fork", force=True)


def train(params: Params) -> Rows:
    """One training: the metrics of each epoch, and the seconds since its start."""
    with redirect_stdout(stderr):
        compute, dataset = prepare_compute(params.compute), read_dataset(params.data.dataset)
        workers = WORKERS if params.runtime.workers == "auto" else params.runtime.workers
        epochs, start = trainings.train(params, dataset, compute, workers), time.perf_counter()
        return [{**metrics.as_row(), "seconds": round(time.perf_counter() - start, 1)} for metrics in epochs]


@cache
def read_dataset(name: str) -> Dataset:
    """A data set that stage download left; read once in each process."""
    return load_dataset(locations.DATA / name)


def write_rows(path: Path, groups: Iterable[Rows]) -> None:
    """Write each group as it comes, and say what its last row is."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table: csv.DictWriter[str] | None = None
        for rows in groups:
            if table is None:
                table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                table.writeheader()
            table.writerows(rows)
            file.flush()
            print(rows[-1], flush=True)


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m benchmarks.many_seeds", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="a recipe, or `default`")
    parser.add_argument("count", type=int, metavar="N", help="number of seeds: 0 to N - 1 are trained")
    parser.add_argument("--processes", type=int, default=4, help="trainings at the same time (default: 4)")
    parser.add_argument("--folder", type=Path, help="where to write (default: results/gpu-NAME-seeds)")
    options = parser.parse_args()
    folder = options.folder or PROJECT / "results" / f"gpu-{options.name}-seeds"
    main(options.name, options.count, options.processes, folder)
