"""`python -m pipeline.runs [RUN | COMMIT | EXPERIMENT]`: which MLflow run belongs to which code, and the reverse.

Without an argument: a table of all runs.
"""

from argparse import ArgumentParser
from collections.abc import Iterator

from cifar_resnet import layout
from cifar_resnet.params import load_params
from cifar_resnet.tracking.lookup import RunRecord, find_runs, list_runs, recorded_in
from pipeline.stage import main


def print_table() -> None:
    """Print a line per run, those of the same weights below each other."""
    runs = list_runs(load_params(layout.PARAMS))
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(run.model_md5 or run.run_id, []).append(run)
    rows: list[tuple[str, ...]] = [("RUN", "STATUS", "ACCURACY", "COMMIT", "EXPERIMENT", "STARTED")]
    for first, *others in groups.values():
        rows += [_row(first), *(_row(other, prefix="  same weights: ") for other in others)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if any(run.dirty for run in runs):
        print("* with uncommitted code")


def print_runs(word: str) -> None:
    """Print what is known about the runs that `word` names."""
    for run in find_runs(load_params(layout.PARAMS), word):
        for label, text in _details(run):
            print(f"{label:<14}{text}")
        print()


def _row(run: RunRecord, prefix: str = "") -> tuple[str, ...]:
    accuracy = "" if run.accuracy is None else f"{run.accuracy:.2%}"
    commit = f"{run.commit[:8]}{'*' if run.dirty else ''}" if run.commit else ""
    return prefix + run.name, run.status, accuracy, commit, run.experiment or "", f"{run.started:%Y-%m-%d %H:%M}"


def _details(run: RunRecord) -> Iterator[tuple[str, str]]:
    yield "run", run.name
    yield "identifier", run.run_id
    yield "status", f"{run.status}, started {run.started:%Y-%m-%d %H:%M}"
    if run.accuracy is not None:
        yield "accuracy", f"{run.accuracy:.2%}"
    if run.commit:
        label = "rebuilt from" if run.reconstructed else "ran on"
        yield label, f"commit {run.commit[:8]}{' with uncommitted code' if run.dirty else ''}"
    if run.changed:
        yield "changed", run.changed
    if run.experiment:
        yield "ran as", f"DVC experiment {run.experiment} on {(run.baseline or '?')[:8]}"
    for place in recorded_in(run):
        yield "recorded in", place


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.runs", description=__doc__)
    parser.add_argument("word", nargs="?", metavar="RUN | COMMIT | EXPERIMENT")
    word = parser.parse_args().word
    main((lambda: print_runs(word)) if word else print_table)
