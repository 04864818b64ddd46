import csv
import json
import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from support.project import make_digits

from image_classifier.outputs.rates import FoundRates, LRSweep, read_found_rates
from image_classifier.project.params import LRFindParams, Params
from image_classifier.system.errors import UserError
from image_classifier.training.loop import make_training_data
from image_classifier.training.lr_range import RULES, find_rates, sweep
from pipeline.lr_find import _endless_batches

# A plateau, a fall, an explosion. Learning rates are powers of 2, so that equal steps are equal factors.
LOSSES = [2.3, 2.3, 2.3, 2.2, 2.0, 1.5, 1.2, 1.0, 1.1, 2.0, 3.9]


def rates(number: int) -> list[float]:
    return [2.0**exponent for exponent in range(number)]


def curve(losses: list[float]) -> LRSweep:
    return LRSweep(tuple(rates(len(losses))), tuple(losses), tuple(losses))


@pytest.mark.parametrize(
    ("rule", "lr"),
    [
        ("descent_end", 2.0**6),  # 1.1 is a climb of 10 %: a margin below the point before it
        ("minimum/10", 2.0**7 / 10),
        ("steepest", 2.0**4),  # from here to the next point, the loss falls by 0.5
        ("valley", 2.0**4),  # the longest fall is 2.3 to 1.0, points 2 to 7: a third and half a third further on
        ("slide", 1.0),  # fewer than 15 points: the first
    ],
)
def test_each_rule_reads_this_curve_as_a_person_would(rule: str, lr: float) -> None:
    assert RULES[rule](np.array(rates(len(LOSSES))), np.array(LOSSES)) == lr


def test_the_valley_of_a_curve_that_only_falls_is_fastais_point() -> None:
    losses = np.linspace(2, 1, 12)
    assert RULES["valley"](np.array(rates(12)), losses) == 2.0**5  # int(12 / 3) + int(12 / 6) after the point before 0


def test_slide_walks_down_until_both_ends_of_its_gap_fall_evenly() -> None:
    losses = [4.0] * 10 + [4 - 0.1 * step for step in range(1, 31)] + [1 + 1.0 * step for step in range(1, 6)]
    # At 39 the right end is still on the bend, at 38 it falls as the left end does: so 39 - 15 = 24, as in fastai.
    assert RULES["slide"](np.array(rates(45)), np.array(losses)) == 2.0**24


def test_the_descent_starts_where_the_line_of_the_fall_meets_the_plateau() -> None:
    falls = [2.3 - 0.1 * step for step in range(1, 11)]
    found = find_rates(curve([2.3] * 6 + falls + [4.0]), "descent_end")
    assert (found.lr_min, found.lr_max) == pytest.approx((2.0**5, 2.0**14))
    wavering = [2.30, 2.26, 2.31, 2.27, 2.31, 2.30]
    found = find_rates(curve(wavering + falls + [4.0]), "descent_end")
    assert found.lr_min == pytest.approx(2.0**5, rel=0.2)
    assert found.lr_max == 2.0**14


def test_noise_in_a_flat_bottom_does_not_move_the_descents_end() -> None:
    bottom = [2.3] * 4 + [2.0, 1.6, 1.3, 1.1] + [1.0] * 6 + [1.2, 2.0]
    for dip in range(8, 14):
        losses = np.array(bottom)
        losses[dip] -= 0.02
        assert RULES["descent_end"](np.array(rates(16)), losses) == 2.0**12


def test_a_descent_that_goes_on_to_the_last_rate_ends_a_margin_below_it() -> None:
    assert RULES["descent_end"](np.array(rates(8)), np.array(LOSSES[:8])) == 2.0**6


def test_the_chosen_rule_gives_lr_max_and_all_are_noted() -> None:
    found = find_rates(curve(LOSSES), "minimum/10")
    assert found.lr_min == pytest.approx(7.2457893)
    assert (found.lr_max, found.rule) == (12.8, "minimum/10")
    assert list(found.suggestions) == ["descent_start", "descent_end", "minimum/10", "steepest", "valley", "slide"]


@pytest.mark.parametrize(
    ("losses", "rule", "reason"),
    [
        ([], "valley", "the loss exploded after 0 steps of the sweep, and 10 are needed: lower lr_find.start_lr"),
        (LOSSES[:9], "valley", "the loss exploded after 9 steps"),
        ([2.3] * 12, "valley", "the loss did not fall between the learning rates 1 and 2.05e+03: widen the range"),
        ([2.3 + 0.1 * step for step in range(12)], "descent_end", "the loss did not fall"),
        ([2.3, 2.3, 2.29] * 4, "descent_end", "the loss did not fall"),  # by less than 1 %
        (LOSSES, "slide", "rule slide suggests lr_max 1, which is not above lr_min 7.25: choose another lr_find.rule"),
    ],
)
def test_a_curve_that_shows_no_rates_is_refused_with_the_remedy(losses: list[float], rule: str, reason: str) -> None:
    with pytest.raises(UserError) as error:
        find_rates(curve(losses), rule)
    assert str(error.value).startswith(reason)
    assert "\n" not in str(error.value)


def measure(step: Callable[[float], float], **settings: float) -> LRSweep:
    fixed = {"start_lr": 1e-3, "end_lr": 10, "steps": 21, "stop_factor": 4, "rule": "valley", "seed": 0}
    params = LRFindParams.model_validate(fixed | {"smoothing": 0} | settings)
    return LRSweep(*zip(*sweep(step, params), strict=True))


def test_the_learning_rate_rises_by_equal_factors_from_start_to_end() -> None:
    measured = measure(lambda lr: 1.0)
    assert measured.lrs == pytest.approx([10 ** (-3 + 0.2 * number) for number in range(21)])


def test_the_moving_average_is_corrected_for_its_start_at_zero() -> None:
    losses = iter([4.0, 2.0, 1.0, *[1.0] * 18])
    measured = measure(lambda lr: next(losses), smoothing=0.5)
    assert measured.losses[:3] == (4, 2, 1)
    assert measured.smoothed[:3] == pytest.approx([4, 8 / 3, 12 / 7])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_sweep_ends_before_a_loss_that_is_no_number(value: float) -> None:
    measured = measure(lambda lr: value if lr > 1 else 2.0)
    assert len(measured.lrs) == 16
    assert max(measured.lrs) == pytest.approx(1)


def test_the_sweep_ends_with_the_first_loss_past_the_stop_factor() -> None:
    measured = measure(lambda lr: 9.0 if lr > 1 else 2.0)
    assert measured.losses == (2.0,) * 16 + (9.0,)


def test_a_first_jump_of_the_loss_does_not_end_the_sweep() -> None:
    losses = iter([1.0, *[9.0] * 5, *[1.0] * 15])
    assert len(measure(lambda lr: next(losses)).lrs) == 21


def test_found_rates_come_back_from_their_file(tmp_path: Path) -> None:
    found = FoundRates(0.1 / 3, 0.4, "valley", {"valley": 0.4, "minimum/10": 0.2})
    found.write_json(tmp_path / "lr_find.json")
    assert read_found_rates(tmp_path / "lr_find.json") == found
    assert set(json.loads((tmp_path / "lr_find.json").read_text())) == {"lr_min", "lr_max", "rule", "suggestions"}


def test_the_curve_file_has_a_row_per_step(tmp_path: Path) -> None:
    curve(LOSSES).write_csv(tmp_path / "curve.csv")
    with (tmp_path / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[5] == {"step": "5", "lr": "32.0", "loss": "1.5", "smoothed_loss": "1.5"}
    assert len(rows) == len(LOSSES)


def test_a_sweep_takes_no_short_batch(tiny_params: Params) -> None:
    data = make_training_data(make_digits(seed=0), tiny_params.data, tiny_params.augment)  # 1,438 images
    for batch_size, sizes in ((500, [500] * 5), (479, [479, 479, 480, 479, 479]), (2000, [1438] * 5)):
        assert [len(labels) for _, labels in islice(_endless_batches(data, batch_size, 0), 5)] == sizes
