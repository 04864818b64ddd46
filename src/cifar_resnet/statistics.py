"""Is a difference more than chance? Two models on the same test images, and settings over the same seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign, inf, nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95  # of every interval shown
SIGNIFICANCE = 1 - LEVEL


class Interval(NamedTuple):
    """Where a figure probably lies."""

    low: float
    high: float


def wilson_interval(count: int, total: int, level: float = LEVEL) -> Interval:
    """Of a proportion. Wilson 1927; of `total` 0, everything from 0 to 1."""
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
    return "more than chance" if p_value < SIGNIFICANCE else "within chance"


@dataclass(frozen=True)
class PairedCounts:
    """How many of the same images two models get right."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @classmethod
    def of(cls, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> "PairedCounts":
        """From whether each image is right (N,)."""
        counts = np.bincount(2 * ~first + ~second, minlength=4)
        return cls(*counts.tolist())

    @property
    def total(self) -> int:
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def difference(self) -> float:
        """The second model's accuracy less the first one's."""
        return (self.only_second - self.only_first) / max(self.total, 1)

    def difference_interval(self, comparisons: int = 1) -> Interval:
        """Of the difference. Newcombe 1998, method 10, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C.

        It joins the Wilson intervals of both accuracies. Of several `comparisons`, all intervals together hold what they
        should in 95 % of cases (Bonferroni).
        """  # noqa: E501 - an identifier is not broken
        if self.total == 0:
            return Interval(-1, 1)
        level = 1 - SIGNIFICANCE / comparisons
        rights = (self.both + self.only_second, self.both + self.only_first)  # of the second, of the first
        (low, high), (first_low, first_high) = (wilson_interval(right, self.total, level) for right in rights)
        accuracy, first_accuracy = (right / self.total for right in rights)
        correlation = self._correlation()

        def joined(one: float, other: float) -> float:
            return sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0))

        return Interval(
            self.difference - joined(accuracy - low, first_high - first_accuracy),
            self.difference + joined(high - accuracy, first_accuracy - first_low),
        )

    def _correlation(self) -> float:
        """Phi of the two models' successes; one above 0 is corrected for continuity, as Newcombe does."""
        product: float = self.both * self.neither - self.only_first * self.only_second
        if product > 0:
            product = max(product - self.total / 2, 0)
        margins = (
            (self.both + self.only_first)
            * (self.only_second + self.neither)
            * (self.both + self.only_second)
            * (self.only_first + self.neither)
        )
        return product / sqrt(margins) if margins else 0

    def p_value(self, comparisons: int = 1) -> float:
        """How often chance alone differs as much: McNemar's exact test, two-sided; Bonferroni over `comparisons`."""
        from scipy.stats import binomtest

        differing = self.only_first + self.only_second
        exact = float(binomtest(self.only_first, differing).pvalue) if differing else 1.0
        return min(1.0, comparisons * exact)


@dataclass(frozen=True)
class SeedSample:
    """A figure of one setting trained from several seeds, or the differences of two settings, seed by seed."""

    values: Sequence[float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def standard_deviation(self) -> float:
        """Of the population that the seeds are drawn from (n - 1); NaN for a single seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else nan

    @property
    def interval(self) -> Interval:
        """Of the mean, by Student's t; a single seed says nothing about it."""
        from scipy.stats import t

        if len(self.values) < 2:
            return Interval(-inf, inf)
        margin = float(t.ppf((1 + LEVEL) / 2, len(self.values) - 1)) * self._standard_error
        return Interval(self.mean - margin, self.mean + margin)

    @property
    def p_value(self) -> float:
        """How often chance alone takes the mean as far from 0: two-sided t test, paired for differences over seeds."""
        from scipy.stats import t

        if len(self.values) < 2 or not any(self.values):
            return 1.0
        error = self._standard_error
        statistic = self.mean / error if error else copysign(inf, self.mean)
        return 2 * float(t.sf(abs(statistic), len(self.values) - 1))

    @property
    def _standard_error(self) -> float:
        return self.standard_deviation / sqrt(len(self.values))
