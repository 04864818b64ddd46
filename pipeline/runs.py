"""`python -m pipeline.runs [RUN | COMMIT | EXPERIMENT]`: which MLflow run belongs to which code.

Without an argument: a table of all runs.
"""

import sys
from argparse import ArgumentParser

from image_classifier.project import locations
from image_classifier.project.params import load_params
from image_classifier.system.tables import as_text
from image_classifier.tracking.lookup import describe_run, find_runs, rows_of_runs
from pipeline.stage import main


def print_table() -> None:
    """Print a line per run; runs with the same weights are below each other."""
    rows = rows_of_runs(load_params(locations.PARAMS))
    print(as_text(rows))
    if len(rows) == 1:
        print("no runs yet: `make demo` makes one in minutes, `dvc repro` trains as params.yaml says", file=sys.stderr)
    if any(row[3].endswith("*") for row in rows):
        print("* with uncommitted code")


def print_runs(word: str) -> None:
    """Print what is known about the runs that `word` names."""
    for run in find_runs(load_params(locations.PARAMS), word):
        for label, text in describe_run(run):
            print(f"{label:<14}{text}")
        print()


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.runs", description=__doc__)
    parser.add_argument("word", nargs="?", metavar="RUN | COMMIT | EXPERIMENT")
    word = parser.parse_args().word
    main((lambda: print_runs(word)) if word else print_table)
