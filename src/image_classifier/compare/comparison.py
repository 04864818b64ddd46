"""Compares runs with the first one: what changed, and whether it is more than chance. Reads and draws nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from image_classifier.compare.sources import ComparedRun
from image_classifier.evaluation.predictions import largest_cells
from image_classifier.evaluation.statistics import Interval, PairedCounts, SeedSample, judged, p_text, wilson_interval
from image_classifier.project.settings import canonical
from image_classifier.system.errors import UserError

SEED = "train.seed"


@dataclass(frozen=True)
class Comparison:
    """A run compared with the first, image by image. Intervals and p allow for `others` comparisons (Bonferroni)."""

    first: ComparedRun
    other: ComparedRun
    others: int

    @cached_property
    def counts(self) -> PairedCounts:
        return PairedCounts.of(self.first.evaluation.right, self.other.evaluation.right)

    @cached_property
    def p_value(self) -> float:
        return self.counts.p_value(self.others)

    @cached_property
    def interval(self) -> Interval:
        return self.counts.difference_interval(self.others)

    def outcomes(self) -> dict[str, NDArray[np.int64]]:
        """Indices of the images that a run gets wrong; first those where the true class's probability changed most."""
        one, other = self.first.evaluation, self.other.evaluation
        order = np.argsort(-np.abs(other.true_probability - one.true_probability), kind="stable")
        chosen = {
            "fixed": ~one.right & other.right,
            "broken": one.right & ~other.right,
            "wrong in both": ~one.right & ~other.right,
        }
        return {name: order[of_these[order]] for name, of_these in chosen.items()}

    def class_changes(self) -> list[tuple[str, PairedCounts, Interval]]:
        """Every class, the most improved first; all intervals together are right in 95 % of cases (Bonferroni)."""
        one, other, changes = self.first.evaluation, self.other.evaluation, []
        for number, name in enumerate(one.classes):
            counts = PairedCounts.of(one.right[one.labels == number], other.right[one.labels == number])
            changes.append((name, counts, counts.difference_interval(self.others * len(one.classes))))
        return sorted(changes, key=lambda change: -change[1].difference)

    def pair_changes(self) -> list[tuple[str, str, int, int]]:
        """The confusions that changed most: true class, predicted class, number of images before and after."""
        one, other = self.first.evaluation, self.other.evaluation
        before, after = one.mistakes, other.mistakes
        return [
            (one.classes[true], one.classes[predicted], int(before[true, predicted]), int(after[true, predicted]))
            for true, predicted in largest_cells(np.abs(after - before))
        ]

    def verdict(self) -> Iterator[str]:
        """The outcome in sentences, with its numbers."""
        counts, one, other = self.counts, self.first.name, self.other.name
        yield f"{other} gets {_in_words(self.other)} right, {one} {_in_words(self.first)}."
        yield (
            f"The difference is {points(counts.difference)} points, 95% interval {points(*self.interval)} points; of "
            f"the {counts.only_first + counts.only_second:,} images that only one of them gets right, {other} has "
            f"{counts.only_second:,} (McNemar's exact test: {p_text(self.p_value)})."
        )
        yield _meaning(self.p_value, "two equally good networks")
        if self.others > 1:
            yield f"Interval and p allow for {self.others} comparisons with {one} (Bonferroni)."
        changed = changed_settings([self.first, self.other])
        if set(changed) == {SEED}:
            yield (
                f"Both have the same settings with seeds {' and '.join(changed[SEED])}: this is how far two trainings "
                "of one setting differ."
            )
        elif not changed:
            yield "Both have the same settings and seed."
        else:
            yield (
                "This compares these two networks; other seeds give other networks. `python -m pipeline.seeds` shows "
                "how good the settings are."
            )
        if self.first.data_md5 != self.other.data_md5:
            yield (
                "Careful: the data sets of the two runs differ, or one is unknown. Their test images have the same "
                "number, order and labels, but may be other images."
            )


Seeds = Mapping[int, ComparedRun]  # one setting trained from several seeds


def seed_sample(runs: Seeds) -> SeedSample:
    """Statistics of a setting's accuracies. Student's t knows no bounds, so the interval is cut off at 0 and 100 %."""
    sample = SeedSample.of([run.evaluation.accuracy for run in runs.values()])
    return replace(sample, interval=sample.interval.within(0, 1))


def describe_seeds(name: str, runs: Seeds) -> str:
    """Mean, standard deviation and interval in words."""
    sample = seed_sample(runs)
    if len(runs) < 2:
        return f"{name}: {sample.mean:.2%}, one seed only; other seeds may give other values."
    return (
        f"{name}: mean {sample.mean:.2%} of {len(runs)} seeds, standard deviation "
        f"{100 * sample.standard_deviation:.2f} points, 95% interval of the mean {sample.interval:.2%} (Student's t)."
    )


def seed_verdict(first: str, other: str, groups: Mapping[str, Seeds]) -> Iterator[str]:
    """Compare `other` with `first`, both names in `groups`, over their common seeds, in sentences."""
    yield describe_seeds(other, groups[other])
    yield describe_seeds(first, groups[first])
    common = groups[first].keys() & groups[other].keys()
    if len(common) < 2:
        yield f"Seeds in common: {len(common)}; two or more are needed to compare them."
        return
    sample = SeedSample.of(
        [groups[other][s].evaluation.accuracy - groups[first][s].evaluation.accuracy for s in common]
    )
    difference = f"Over the {len(common)} seeds in common, the difference is {points(sample.mean)} points"
    # If all differences are equal, apart from rounding, a t test gives p = 0 even for two seeds.
    if sample.standard_deviation < 1e-9:
        yield f"{difference} for each seed: more seeds are needed to tell it from chance."
        return
    others = len(groups) - 1
    p_value = min(1.0, others * sample.p_value)
    interval = sample.interval.within(-1, 1)
    yield f"{difference}, 95% interval {points(*interval)} points (paired t test: {p_text(p_value)})."
    yield _meaning(p_value, "two equally good settings")
    if others > 1:
        yield f"p allows for {others} comparisons with {first} (Bonferroni)."


def require_same_images(runs: Sequence[ComparedRun]) -> None:
    """Make sure that runs can be compared image by image; a UserError if they saw different test images."""
    first = runs[0]
    for other in runs[1:]:
        one, another = first.evaluation, other.evaluation
        if one.classes != another.classes:
            difference = f"classes {', '.join(one.classes[:5])}… and {', '.join(another.classes[:5])}…"
        elif len(one.labels) != len(another.labels):
            difference = f"{len(one.labels):,} and {len(another.labels):,} images"
        elif not np.array_equal(one.labels, another.labels):
            difference = f"of which {(one.labels != another.labels).sum():,} have other labels"
        else:
            continue
        raise UserError(
            f"{first.name} and {other.name} saw different test images ({difference}): only runs on the same data set, "
            "and with the same data.split_seed where that makes the test set, can be compared"
        )


def changed_settings(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """The settings that are not the same in all runs, with each run's value."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: [run.settings.get(name, "not set") for run in runs] for name in names}
    return {name: each for name, each in values.items() if len({canonical({name: value})[name] for value in each}) > 1}


def points(*fractions: float) -> str:
    """A difference of two fractions, or the ends of its interval, in percentage points."""
    return " to ".join(f"{100 * fraction:+.2f}" for fraction in fractions)


def accuracy_cells(run: ComparedRun) -> list[str]:
    """A run's accuracy and its interval."""
    right = run.evaluation.right
    return [f"{right.mean():.2%}", f"{wilson_interval(int(right.sum()), len(right)):.2%}"]


def _in_words(run: ComparedRun) -> str:
    accuracy, interval = accuracy_cells(run)
    right = run.evaluation.right
    return f"{accuracy} ({right.sum():,} of {len(right):,}, 95% interval {interval})"


def _meaning(p_value: float, equals: str) -> str:
    share = f"{100 * p_value:.{'0f' if p_value >= 0.1 else '2g'}} of 100 cases"
    if p_value < 0.0001:
        share = "fewer than 1 of 10,000 cases"
    return f"That is {judged(p_value)}: {equals} would differ this much or more in {share}."


def run_table(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """A header and a row for each run."""
    first = comparisons[0].first
    return [
        ["run", "accuracy", "95% interval", f"against {first.name}", "95% interval", "p", "fixed", "broken"],
        [first.name, *accuracy_cells(first), *[""] * 5],
        *(
            [
                each.other.name,
                *accuracy_cells(each.other),
                f"{points(each.counts.difference)} points",
                f"{points(*each.interval)} points",
                p_text(each.p_value).removeprefix("p = "),
                str(each.counts.only_second),
                str(each.counts.only_first),
            ]
            for each in comparisons
        ),
    ]


def seed_table(groups: Mapping[str, Seeds]) -> list[list[str]]:
    """A header and a row for each seed."""
    accuracies = [{seed: f"{run.evaluation.accuracy:.2%}" for seed, run in runs.items()} for runs in groups.values()]
    seeds = sorted({seed for each in accuracies for seed in each})
    return [["seed", *groups], *([str(seed), *(each.get(seed, "") for each in accuracies)] for seed in seeds)]
