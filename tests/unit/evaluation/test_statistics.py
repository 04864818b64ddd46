"""Intervals and p-values: against hand-computed and published cases, and by simulation."""

import math
import warnings

import numpy as np
import pytest
from scipy.stats import binom, kstest, ttest_rel

from image_classifier.evaluation.statistics import Interval, PairedCounts, SeedSample, wilson_interval


def paired_samples(num_images: int, shares: tuple[float, ...], repetitions: int, seed: int) -> list[PairedCounts]:
    """Random test sets; `shares` are the probabilities that an image is right in both, in one, or in neither."""
    drawn = np.random.default_rng(seed).multinomial(num_images, shares, size=repetitions)
    return [PairedCounts(*counts) for counts in drawn.tolist()]


def share_within(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in intervals]))


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_those_that_newcombe_published(count: int, total: int, low: float, high: float) -> None:
    # doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I
    assert wilson_interval(count, total) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_is_the_one_computed_by_hand() -> None:
    z, p, n = 1.959963984540054, 0.9375, 10_000
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    margin = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert wilson_interval(9375, 10_000) == pytest.approx((centre - margin, centre + margin))


def test_without_images_the_intervals_hold_every_value() -> None:
    nothing = PairedCounts(0, 0, 0, 0)
    assert wilson_interval(0, 0) == (0, 1)
    assert (nothing.difference, nothing.difference_interval(), nothing.p_value()) == (0, (-1, 1), 1)


def test_images_are_counted_by_which_model_is_right() -> None:
    first = np.array([True, True, True, False, False, True])
    second = np.array([True, True, False, True, False, True])
    assert PairedCounts.of(first, second) == PairedCounts(both=3, only_first=1, only_second=1, neither=1)


def test_a_small_paired_difference_has_the_interval_in_the_literature() -> None:
    # Airway hyper-responsiveness of 21 children, Fagerland, Lydersen, Laake 2014, doi:10.1002/sim.6148
    counts = PairedCounts(both=1, only_first=1, only_second=7, neither=12)
    assert counts.difference == pytest.approx(6 / 21)
    assert counts.difference_interval() == pytest.approx((0.026, 0.507), abs=5e-4)


def test_a_paired_difference_without_correlation_joins_both_wilson_intervals() -> None:
    counts = PairedCounts(both=48, only_first=12, only_second=32, neither=8)  # 60 and 80 right, 0.6 * 0.8 in both
    first, second = wilson_interval(60, 100), wilson_interval(80, 100)
    low = 0.2 - math.hypot(0.8 - second.low, first.high - 0.6)
    high = 0.2 + math.hypot(second.high - 0.8, 0.6 - first.low)
    assert counts.difference_interval() == pytest.approx((low, high))


def test_the_difference_changes_its_sign_with_the_order() -> None:
    one, other = PairedCounts(900, 20, 45, 35), PairedCounts(900, 45, 20, 35)
    low, high = one.difference_interval()
    assert one.difference == -other.difference == 0.025
    assert other.difference_interval() == pytest.approx((-high, -low))
    assert one.p_value() == other.p_value()


def test_mcnemar_is_the_binomial_test_of_the_images_that_differ() -> None:
    assert PairedCounts(90, 2, 8, 0).p_value() == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert PairedCounts(90, 0, 5, 5).p_value() == pytest.approx(2 / 2**5)
    assert PairedCounts(90, 4, 4, 2).p_value() == PairedCounts(90, 0, 0, 10).p_value() == 1


def test_more_comparisons_widen_intervals_and_raise_p() -> None:
    counts = PairedCounts(900, 20, 45, 35)
    (low, high), (low_of_ten, high_of_ten) = counts.difference_interval(), counts.difference_interval(10)
    assert low_of_ten < low < counts.difference < high < high_of_ten
    assert counts.p_value(10) == pytest.approx(10 * counts.p_value())
    assert counts.p_value(10**6) == 1


@pytest.mark.parametrize(("accuracy", "total", "steps"), [(0.94, 500, 0.01), (0.7, 300, 0.01), (0.99, 359, 0.021)])
def test_wilson_intervals_hold_the_truth_in_95_of_100_cases(accuracy: float, total: int, steps: float) -> None:
    counts = np.arange(total + 1)
    holds = [low <= accuracy <= high for low, high in (wilson_interval(int(count), total) for count in counts)]
    exact = binom.pmf(counts, total, accuracy)[holds].sum()  # not sampled; the coverage jumps since counts are whole
    assert exact == pytest.approx(0.95, abs=steps)


@pytest.mark.parametrize(
    "shares",
    [(0.91, 0.03, 0.03, 0.03), (0.90, 0.02, 0.05, 0.03), (0.6, 0.05, 0.25, 0.1)],
    ids=["as CIFAR-10, no difference", "as CIFAR-10, 3 %", "another epoch"],
)
def test_paired_intervals_hold_the_truth_in_95_of_100_cases(shares: tuple[float, ...]) -> None:
    intervals = [sample.difference_interval() for sample in paired_samples(500, shares, 1000, seed=1)]
    assert share_within(intervals, shares[2] - shares[1]) == pytest.approx(0.95, abs=0.02)  # 3 standard errors


def test_intervals_of_ten_classes_all_hold_the_truth_in_95_of_100_cases() -> None:
    classes = [paired_samples(200, (0.85, 0.05, 0.05, 0.05), 400, seed=seed) for seed in range(10)]
    all_hold = [
        all(low <= 0 <= high for low, high in (one.difference_interval(10) for one in experiment))
        for experiment in zip(*classes, strict=True)
    ]
    assert np.mean(all_hold) == pytest.approx(0.95, abs=0.033)  # 3 standard errors


def test_mcnemar_p_is_below_each_threshold_at_most_as_often_as_chance_allows() -> None:
    # Exact tests of counts are conservative: P(p <= t) <= t for every t, with equality only where p can be t.
    for differing in (5, 20, 100, 601):
        counts = np.arange(differing + 1)
        p = np.array([PairedCounts(0, int(one), int(differing - one), 0).p_value() for one in counts])
        chance = binom.pmf(counts, differing, 0.5)
        for threshold in np.unique(p):
            assert chance[p <= threshold].sum() == pytest.approx(threshold)
    assert chance[p <= 0.05].sum() > 0.04  # with many images, hardly conservative


def test_mcnemar_p_is_uniform_except_for_its_steps_when_models_differ_by_chance() -> None:
    samples = paired_samples(5000, (0.90, 0.03, 0.03, 0.04), 2000, seed=2)
    p = np.array([sample.p_value() for sample in samples])
    smaller = np.array([binom.cdf(s.only_first, s.only_first + s.only_second, 0.5) for s in samples])
    own = np.array([binom.pmf(s.only_first, s.only_first + s.only_second, 0.5) for s in samples])
    mid_p = 1 - 2 * np.abs(smaller - own / 2 - 0.5)  # takes half of the step off
    assert kstest(mid_p, "uniform").pvalue > 0.01
    assert np.abs(p - mid_p).max() < 0.08
    assert np.mean(p < 0.05) < 0.06


def test_figures_over_seeds_are_those_computed_by_hand() -> None:
    sample = SeedSample.of([93.5, 94.0, 93.9, 93.6, 94.5])
    assert sample.mean == pytest.approx(93.9)
    assert sample.standard_deviation == pytest.approx(math.sqrt((0.16 + 0.01 + 0 + 0.09 + 0.36) / 4))
    margin = 2.776445 * sample.standard_deviation / math.sqrt(5)  # t of 4 degrees of freedom, from tables
    assert sample.interval == pytest.approx((93.9 - margin, 93.9 + margin), abs=1e-5)


def test_p_of_differences_is_that_of_the_paired_t_test() -> None:
    one, other = np.array([93.5, 94.0, 93.9, 93.6]), np.array([93.9, 94.2, 93.8, 94.1])
    assert SeedSample.of((other - one).tolist()).p_value == pytest.approx(ttest_rel(other, one).pvalue)


def test_one_seed_gives_an_infinite_interval() -> None:
    sample = SeedSample.of([0.94])
    assert math.isnan(sample.standard_deviation)
    assert (sample.mean, sample.interval, sample.p_value) == (0.94, (-math.inf, math.inf), 1)


def test_seeds_that_are_all_equal_do_not_divide_by_zero() -> None:
    with warnings.catch_warnings(action="error"):
        assert (SeedSample.of([0.0, 0.0]).p_value, SeedSample.of([0.25, 0.25, 0.25]).p_value) == (1, 0)


def test_t_intervals_hold_the_truth_in_95_of_100_cases_and_p_is_uniform() -> None:
    drawn = np.random.default_rng(3).normal(0, 0.15, size=(3000, 5))
    samples = [SeedSample.of(values) for values in drawn.tolist()]
    assert share_within([sample.interval for sample in samples], 0) == pytest.approx(0.95, abs=0.01)
    assert kstest([sample.p_value for sample in samples], "uniform").pvalue > 0.01
