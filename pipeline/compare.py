"""`python -m pipeline.compare A B [C …]`: is B better than A by more than chance, and which images made the difference?

Each RUN is `workspace`, a commit or tag, a DVC experiment, an MLflow run (name, identifier or `champion`), or a group
made by `python -m pipeline.seeds`. All others are compared with the first. Each comparison has a page in
`reports/compare`, with the images that were fixed and broken, and where both networks looked. Nothing is trained.
"""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from image_classifier.compare.comparison import (
    Comparison,
    changed_settings,
    require_same_images,
    run_table,
    seed_table,
    seed_verdict,
)
from image_classifier.compare.sources import describe_code, read_group, read_run
from image_classifier.project import locations
from image_classifier.project.params import Params, load_params
from image_classifier.system.errors import UserError
from image_classifier.system.files import write_text
from image_classifier.system.tables import as_markdown, as_text
from pipeline.stage import main


def run(options: Namespace, params: Params) -> None:
    """Print a table, the verdicts and their details; a UserError if the runs cannot be compared."""
    words, in_columns = options.runs, as_markdown if options.markdown else as_text
    if len(words) < 2 or len(set(words)) < len(words) or "" in words:  # Git reads an empty name as HEAD
        raise UserError(f"{' '.join(words)}: give two or more different runs, such as `HEAD workspace`")
    if groups := {word: runs for word in words if (runs := read_group(word, params))}:
        if single := next((word for word in words if word not in groups), None):
            raise UserError(f"{next(iter(groups))} is a group of seeds, {single} is not: compare groups with groups")
        require_same_images([run for runs in groups.values() for run in runs.values()])
        verdicts = [" ".join(seed_verdict(words[0], word, groups)) for word in words[1:]]
        print("\n\n".join([in_columns(seed_table(groups)), *verdicts]))
        return
    comparisons = read_comparisons(words, params)
    verdicts = [" ".join(comparison.verdict()) for comparison in comparisons]
    print("\n\n".join([in_columns(run_table(comparisons)), *verdicts]))
    if not options.markdown:
        for comparison in comparisons:
            print("\n".join(["", *details(comparison), f"  page: {write_page(comparison, params)}"]))


def read_comparisons(words: Sequence[str], params: Params) -> list[Comparison]:
    """Compare the first of the runs that `words` name with each of the others."""
    first, *others = runs = [read_run(word, params) for word in words]
    require_same_images(runs)
    return [Comparison(first, other, len(others)) for other in others]


def write_page(comparison: Comparison, params: Params) -> Path:
    """Write the page of a comparison, and return where it is."""
    from image_classifier.compare.page import render_comparison  # PyTorch and Grad-CAM: 5 s

    names = [re.sub(r"[^\w.-]+", "-", run.name) for run in (comparison.first, comparison.other)]
    path = locations.COMPARISONS / f"{names[0]}..{names[1]}.html"
    write_text(path, render_comparison(comparison, params))
    return path


def details(comparison: Comparison) -> Iterator[str]:
    """The details of a verdict, a line each: classes, confusions, settings and code."""
    yield f"{comparison.first.name} -> {comparison.other.name}"
    for name, counts, interval in comparison.class_changes():
        clear = ", more than chance" if interval.leaves_0_out else ""
        yield f"  class {name}: {counts.first_right} -> {counts.second_right} of {counts.total} right{clear}"
    for true, predicted, before, after in comparison.pair_changes():
        yield f"  {true} taken for {predicted}: {before} -> {after}"
    for name, values in changed_settings([comparison.first, comparison.other]).items():
        yield f"  {name}: {' -> '.join(values)}"
    yield f"  {describe_code(comparison.first, comparison.other)}"


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.compare", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, for a pull request")
    options = parser.parse_args()
    main(lambda: run(options, load_params(locations.PARAMS)))
