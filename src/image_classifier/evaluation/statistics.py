"""Is a difference more than chance? Two models on the same test images, and settings over the same seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95  # confidence level of every interval shown


class Interval(NamedTuple):
    """Where a figure probably lies."""

    low: float
    high: float

    @property
    def leaves_0_out(self) -> bool:
        """Whether a difference with this interval is more than chance."""
        return self.low > 0 or self.high < 0

    def within(self, lowest: float, highest: float) -> "Interval":
        """Without the values that the figure cannot have; it holds the truth as often as before."""
        return Interval(max(self.low, lowest), min(self.high, highest))

    def __format__(self, form: str) -> str:
        return f"{self.low:{form}} to {self.high:{form}}"


def wilson_interval(count: int, total: int, level: float = LEVEL) -> Interval:
    """Interval of a proportion, Wilson 1927; 0 to 1 if `total` is 0."""
    from scipy.stats import binomtest  # takes 1 s, and most commands do not need it

    if total == 0:
        return Interval(0, 1)
    low, high = binomtest(count, total).proportion_ci(level, method="wilson")
    return Interval(float(low), float(high))


def p_text(p_value: float) -> str:
    """A p-value with two digits."""
    return "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.2g}"


def judged(p_value: float) -> str:
    """Whether a difference is more than chance, in words."""
    return "more than chance" if p_value < 1 - LEVEL else "within chance"


@dataclass(frozen=True)
class PairedCounts:
    """How many of the same images two models get right."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @classmethod
    def of(cls, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> "PairedCounts":
        """Count from an array (N,) for each model: whether it gets each image right."""
        return cls(*np.bincount(2 * ~first + ~second, minlength=4).tolist())

    @property
    def total(self) -> int:
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def first_right(self) -> int:
        return self.both + self.only_first

    @property
    def second_right(self) -> int:
        return self.both + self.only_second

    @property
    def difference(self) -> float:
        """The second model's accuracy less the first one's."""
        return (self.only_second - self.only_first) / max(self.total, 1)

    def difference_interval(self, comparisons: int = 1) -> Interval:
        """Interval of the difference, from the Wilson intervals of both accuracies.

        With several `comparisons`, all of their intervals are right together in 95 % of cases (Bonferroni). Source:
        Newcombe 1998, method 10, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C.
        """
        if self.total == 0:
            return Interval(-1, 1)
        level = 1 - (1 - LEVEL) / comparisons
        first, second = self.first_right / self.total, self.second_right / self.total
        first_low, first_high = wilson_interval(self.first_right, self.total, level)
        second_low, second_high = wilson_interval(self.second_right, self.total, level)
        correlation = self._correlation()

        def joined(one: float, other: float) -> float:
            return sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0))

        return Interval(
            self.difference - joined(second - second_low, first_high - first),
            self.difference + joined(second_high - second, first - first_low),
        )

    def _correlation(self) -> float:
        """Phi of the two models' successes; if above 0, it is corrected for continuity, as Newcombe does."""
        product: float = self.both * self.neither - self.only_first * self.only_second
        if product > 0:
            product = max(product - self.total / 2, 0)
        margins = (
            self.first_right * (self.total - self.first_right) * self.second_right * (self.total - self.second_right)
        )
        return product / sqrt(margins) if margins else 0

    def p_value(self, comparisons: int = 1) -> float:
        """Chance of at least this difference between equal models: McNemar's exact test, two-sided; Bonferroni."""
        from scipy.stats import binomtest

        differing = self.only_first + self.only_second
        exact = float(binomtest(self.only_first, differing).pvalue) if differing else 1.0
        return min(1.0, comparisons * exact)


@dataclass(frozen=True)
class SeedSample:
    """A figure of one setting trained from several seeds, or the differences of two settings, seed by seed."""

    mean: float
    standard_deviation: float  # estimated for the population of seeds (n - 1); NaN for a single seed
    interval: Interval  # of the mean, by Student's t; infinite for a single seed
    p_value: float  # of the two-sided t test against a mean of 0; for differences, this is the paired test

    @classmethod
    def of(cls, values: Sequence[float]) -> "SeedSample":
        """Compute from the figure, or the difference, of each seed."""
        from scipy.stats import t

        mean, freedom = float(np.mean(values)), len(values) - 1
        if not freedom:
            return cls(mean, nan, Interval(-inf, inf), 1)
        deviation = float(np.std(values, ddof=1))
        error = deviation / sqrt(len(values))
        margin = float(t.ppf((1 + LEVEL) / 2, freedom)) * error
        statistic = mean / error if error else inf if mean else 0
        p_value = 2 * float(t.sf(abs(statistic), freedom))
        return cls(mean, deviation, Interval(mean - margin, mean + margin), p_value)
