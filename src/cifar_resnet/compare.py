"""Runs against the first of them: what changed, and whether that is more than chance. Nothing is read or drawn here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cifar_resnet.compare_sources import ComparedRun
from cifar_resnet.errors import UserError
from cifar_resnet.project import canonical
from cifar_resnet.statistics import Interval, PairedCounts, SeedSample, judged, p_text, wilson_interval

NUM_PAIRS = 10
SEED = "train.seed"


@dataclass(frozen=True)
class ClassChange:
    """How many images of a class two runs get right; `interval` is of the difference of their shares."""

    name: str
    total: int
    first_right: int
    other_right: int
    interval: Interval

    @property
    def change(self) -> float:
        return (self.other_right - self.first_right) / max(self.total, 1)

    @property
    def is_clear(self) -> bool:
        """Whether the interval, and so more than chance, is on one side of 0."""
        return self.interval.low > 0 or self.interval.high < 0


@dataclass(frozen=True)
class PairChange:
    """How many images of a class two runs take for another one."""

    true: str
    predicted: str
    before: int
    after: int


@dataclass(frozen=True)
class Comparison:
    """A run against the first one, image by image; intervals and p allow for all `others` that are compared with it."""

    first: ComparedRun
    other: ComparedRun
    others: int

    @cached_property
    def counts(self) -> PairedCounts:
        return PairedCounts.of(_right(self.first), _right(self.other))

    @cached_property
    def p_value(self) -> float:
        return self.counts.p_value(self.others)

    @property
    def interval(self) -> Interval:
        return self.counts.difference_interval(self.others)

    @property
    def judged(self) -> str:
        """Whether the difference is more than chance, in words."""
        return judged(self.p_value)

    def outcomes(self) -> dict[str, NDArray[np.int64]]:
        """Indices of the test images that a run gets wrong; those first whose true class became more or less likely."""
        one, other = _right(self.first), _right(self.other)
        gain = self.other.evaluation.true_probability - self.first.evaluation.true_probability
        order = np.argsort(-np.abs(gain), kind="stable")
        chosen = {"fixed": ~one & other, "broken": one & ~other, "wrong in both": ~one & ~other}
        return {name: order[of_these[order]] for name, of_these in chosen.items()}

    def class_changes(self) -> list[ClassChange]:
        """Every class, the most improved first; all intervals together are right in 95 % of cases (Bonferroni)."""
        evaluation, changes = self.first.evaluation, []
        for number, name in enumerate(evaluation.classes):
            of_class = evaluation.labels == number
            counts = PairedCounts.of(_right(self.first)[of_class], _right(self.other)[of_class])
            interval = counts.difference_interval(self.others * len(evaluation.classes))
            first_right, other_right = counts.both + counts.only_first, counts.both + counts.only_second
            changes.append(ClassChange(name, counts.total, first_right, other_right, interval))
        return sorted(changes, key=lambda change: -change.change)

    def pair_changes(self) -> list[PairChange]:
        """The pairs of true and predicted class whose counts changed most."""
        before, after = self.first.evaluation.confusion, self.other.evaluation.confusion
        change = np.abs(after - before)
        np.fill_diagonal(change, 0)
        order = np.argsort(-change, axis=None, kind="stable")[:NUM_PAIRS]
        cells = zip(*np.unravel_index(order, change.shape), strict=True)
        names = self.first.evaluation.classes
        return [
            PairChange(names[row], names[column], int(before[row, column]), int(after[row, column]))
            for row, column in cells
            if change[row, column]
        ]

    def verdict(self) -> Iterator[str]:
        """The outcome in sentences, with every number that it rests on."""
        counts, one, other = self.counts, self.first.name, self.other.name
        differing = counts.only_first + counts.only_second
        yield f"{other} gets {_with_interval(self.other)} right, {one} {_with_interval(self.first)}."
        yield (
            f"The difference is {points(counts.difference)}, 95% interval {span(self.interval, points)}; of the "
            f"{differing:,} images that only one of them gets right, {other} has {counts.only_second:,} (McNemar's "
            f"exact test: {p_text(self.p_value)})."
        )
        yield _meaning(self.p_value, "two equally good networks")
        if self.others > 1:
            yield f"Interval and p allow for {self.others} comparisons with {one} (Bonferroni)."
        yield from self._about_settings()
        if self.first.data_md5 != self.other.data_md5:
            yield (
                "Careful: their data sets differ, or one is not known. The test images have the same number, order and "
                "labels, but may be others."
            )

    def _about_settings(self) -> Iterator[str]:
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
                "This is about these two networks: other seeds make others. `python -m pipeline.seeds` shows what the "
                "settings themselves are worth."
            )


@dataclass(frozen=True)
class SeedGroup:
    """One setting trained from several seeds."""

    name: str
    runs: Mapping[int, ComparedRun]  # by seed

    @property
    def accuracy(self) -> SeedSample:
        return SeedSample([run.evaluation.accuracy for run in self.runs.values()])

    def describe(self) -> str:
        """Mean, standard deviation and interval in words."""
        sample, count = self.accuracy, len(self.runs)
        if count < 2:
            return f"{self.name}: {sample.mean:.2%}, one seed, which says nothing about others"
        deviation = f"standard deviation {100 * sample.standard_deviation:.2f} points"
        return (
            f"{self.name}: mean {sample.mean:.2%} of {count} seeds, {deviation}, 95% interval of the mean "
            f"{span(sample.interval, percentage)} (Student's t)"
        )


@dataclass(frozen=True)
class GroupComparison:
    """A setting against the first one, over the seeds that both were trained from."""

    first: SeedGroup
    other: SeedGroup
    others: int

    @property
    def differences(self) -> dict[int, float]:
        """The other's accuracy less the first one's, by common seed."""
        return {
            seed: run.evaluation.accuracy - self.first.runs[seed].evaluation.accuracy
            for seed, run in self.other.runs.items()
            if seed in self.first.runs
        }

    @property
    def p_value(self) -> float:
        return min(1.0, self.others * SeedSample(list(self.differences.values())).p_value)

    def verdict(self) -> Iterator[str]:
        """The outcome in sentences, with every number that it rests on."""
        yield f"{self.other.describe()}."
        yield f"{self.first.describe()}."
        sample = SeedSample(list(self.differences.values()))
        if len(sample.values) < 2:
            yield f"They have {len(sample.values)} seeds in common; two or more are needed to compare them."
            return
        yield (
            f"Over the {len(sample.values)} seeds in common, {self.other.name} is {points(sample.mean)} ahead, 95% "
            f"interval {span(sample.interval, points)} (paired t test: {p_text(self.p_value)})."
        )
        yield _meaning(self.p_value, "two equally good settings")
        if self.others > 1:
            yield f"p allows for {self.others} comparisons with {self.first.name} (Bonferroni)."


def require_same_images(runs: Sequence[ComparedRun]) -> None:
    """Make sure that runs can be compared image by image.

    Raises:
        UserError: they saw different test images.
    """
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


def points(difference: float) -> str:
    """A difference of two fractions, in percentage points."""
    return f"{100 * difference:+.2f} points"


def percentage(fraction: float) -> str:
    """A fraction of 1 in percent."""
    return f"{fraction:.2%}"


def span(interval: Interval, form: Callable[[float], str]) -> str:
    """An interval in words; the unit is said once."""
    return f"{form(interval.low).removesuffix(' points')} to {form(interval.high)}"


def _right(run: ComparedRun) -> NDArray[np.bool_]:
    return np.asarray(run.evaluation.predicted == run.evaluation.labels)


def _with_interval(run: ComparedRun) -> str:
    accuracy, interval = accuracy_cells(run)
    right = _right(run)
    return f"{accuracy} ({right.sum():,} of {len(right):,}, 95% interval {interval})"


def _meaning(p_value: float, equals: str) -> str:
    if p_value < 0.0001:
        share = "fewer than 1 of 10,000 cases"
    else:
        share = f"{100 * p_value:.{'0f' if p_value >= 0.1 else '2g'}} of 100 cases"
    return f"That is {judged(p_value)}: {equals} would differ this much or more in {share}."


def run_table(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """A header and a row for each run."""
    first = comparisons[0].first
    rows = [["run", "accuracy", "95% interval", f"against {first.name}", "95% interval", "p", "fixed", "broken"]]
    rows.append([first.name, *accuracy_cells(first), *[""] * 5])
    for each in comparisons:
        change = [
            points(each.counts.difference),
            span(each.interval, points),
            p_text(each.p_value).removeprefix("p = "),
        ]
        moved = [str(each.counts.only_second), str(each.counts.only_first)]
        rows.append([each.other.name, *accuracy_cells(each.other), *change, *moved])
    return rows


def group_table(comparisons: Sequence[GroupComparison]) -> list[list[str]]:
    """A header and a row for each seed."""
    groups = [comparisons[0].first, *(each.other for each in comparisons)]
    seeds = sorted({seed for group in groups for seed in group.runs})
    rows = [
        [str(seed), *(percentage(g.runs[seed].evaluation.accuracy) if seed in g.runs else "" for g in groups)]
        for seed in seeds
    ]
    return [["seed", *(group.name for group in groups)], *rows]


def accuracy_cells(run: ComparedRun) -> list[str]:
    """A run's accuracy and its interval."""
    right = _right(run)
    return [percentage(right.mean()), span(wilson_interval(int(right.sum()), len(right)), percentage)]
