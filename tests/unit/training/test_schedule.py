from functools import partial

import pytest

from image_classifier.training.loop import one_cycle

STEPS_PER_EPOCH = 98


@pytest.mark.parametrize(
    ("epoch", "lr"),
    [(0, 0.1), (1, 0.3), (2.5, 0.6), (4, 0.9), (5, 1.1), (6.9, 1.0), (14.5, 0.6), (22.1, 0.2), (24, 0.1)],
)
def test_the_assignments_cycle_follows_this_table(epoch: float, lr: float) -> None:
    assert one_cycle(epoch, epochs=24, peak_epoch=5, lr_min=0.1, lr_max=1.1) == pytest.approx(lr)


@pytest.mark.parametrize("peak_epoch", [0.25, 1.25, 2, 3.9])
def test_the_peak_is_at_peak_epoch_and_nowhere_else(peak_epoch: float) -> None:
    cycle = partial(one_cycle, epochs=4, peak_epoch=peak_epoch, lr_min=0.01, lr_max=0.5)
    assert cycle(peak_epoch) == pytest.approx(0.5, rel=1e-15)
    assert cycle(peak_epoch - 0.01) < 0.5
    assert cycle(peak_epoch + 0.01) < 0.5


def test_the_rate_rises_then_falls_and_is_never_below_lr_min() -> None:
    positions = [step / STEPS_PER_EPOCH for step in range(24 * STEPS_PER_EPOCH + 1)]
    lrs = [one_cycle(epoch, epochs=24, peak_epoch=5, lr_min=0.0123, lr_max=0.4567) for epoch in positions]
    peak = 5 * STEPS_PER_EPOCH
    assert lrs[: peak + 1] == sorted(lrs[: peak + 1])
    assert lrs[peak:] == sorted(lrs[peak:], reverse=True)
    assert min(lrs) == lrs[0] == lrs[-1] == 0.0123
