"""`python -m pipeline.runs [RUN | COMMIT | EXPERIMENT]`: which MLflow run belongs to which code.

Without an argument: a table of all runs.
"""

from argparse import ArgumentParser
from collections.abc import Iterator

from cifar_resnet import layout
from cifar_resnet.params import load_params
from cifar_resnet.tracking.lookup import RunRecord, find_runs, list_runs, recorded_in
from cifar_resnet.tracking.provenance import BASELINE, CHANGED, COMMIT, DIRTY, EXPERIMENT, RECONSTRUCTED
from pipeline.stage import main


def print_table() -> None:
    """Print a line per run, those of the same weights below each other."""
    groups: dict[str, list[RunRecord]] = {}
    for run in list_runs(load_params(layout.PARAMS)):
        groups.setdefault(run.model_md5 or run.run_id, []).append(run)
    rows: list[tuple[str, ...]] = [("RUN", "STATUS", "ACCURACY", "COMMIT", "EXPERIMENT", "STARTED")]
    for first, *others in groups.values():
        rows += [_row(first), *(_row(other, prefix="  same weights: ") for other in others)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if any(row[3].endswith("*") for row in rows):
        print("* with uncommitted code")


def print_runs(word: str) -> None:
    """Print what is known about the runs that `word` names."""
    for run in find_runs(load_params(layout.PARAMS), word):
        for label, text in _details(run):
            print(f"{label:<14}{text}")
        print()


def _row(run: RunRecord, prefix: str = "") -> tuple[str, ...]:
    accuracy = "" if run.accuracy is None else f"{run.accuracy:.2%}"
    commit = run.tags.get(COMMIT, "")[:8] + "*" * (run.tags.get(DIRTY) == "true")
    started = f"{run.started:%Y-%m-%d %H:%M}"
    return prefix + run.name, run.status, accuracy, commit, run.tags.get(EXPERIMENT, ""), started


def _details(run: RunRecord) -> Iterator[tuple[str, str]]:
    yield "run", run.name
    yield "identifier", run.run_id
    yield "status", f"{run.status}, started {run.started:%Y-%m-%d %H:%M}"
    if run.accuracy is not None:
        yield "accuracy", f"{run.accuracy:.2%}"
    if commit := run.tags.get(COMMIT):
        label = "rebuilt from" if RECONSTRUCTED in run.tags else "ran on"
        yield label, f"commit {commit[:8]}{' with uncommitted code' * (run.tags.get(DIRTY) == 'true')}"
    if changed := run.tags.get(CHANGED):
        yield "changed", changed
    if experiment := run.tags.get(EXPERIMENT):
        yield "ran as", f"DVC experiment {experiment} on {run.tags.get(BASELINE, '?')[:8]}"
    for place in recorded_in(run):
        yield "recorded in", place


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.runs", description=__doc__)
    parser.add_argument("word", nargs="?", metavar="RUN | COMMIT | EXPERIMENT")
    word = parser.parse_args().word
    main((lambda: print_runs(word)) if word else print_table)
