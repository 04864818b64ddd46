"""The learning-rate range test (Smith 2017, arXiv:1506.01186): a sweep, and rules that read it.

A rule is a pure function of the learning rates and the smoothed losses, both (steps,), in the order of the sweep, cut
off where the loss explodes. `valley`, `minimum/10`, `steepest` and `slide` follow fastai's definitions
(https://docs.fast.ai/callback.schedule.html); `descent_start` and `descent_end` are the two ends of the fall.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from image_classifier.outputs.rates import FoundRates, LRSweep, NoRatesError
from image_classifier.project.params import LRFindParams

Floats = NDArray[np.float64]

MIN_POINTS = 10  # fewer show no shape that a rule could read
CLIMB = 1.05  # at this multiple of its minimum, the loss has left the bottom
MARGIN = math.sqrt(2)  # divides the rate at which the loss has left the bottom
MIDDLE_OF_DESCENT = (0.2, 0.8)  # the line is fitted between these shares of the fall, after noise and before the bend


def sweep(step: Callable[[float], float], settings: LRFindParams) -> Iterator[tuple[float, float, float]]:
    """Raise the learning rate exponentially; yields (lr, loss, smoothed loss) per step.

    `step` trains on one batch at a learning rate and returns the loss. The sweep ends early if the loss is not finite.
    After MIN_POINTS, it also ends if the smoothed loss, a bias-corrected moving average, passes `stop_factor` times its
    lowest value.
    """
    average, best = 0.0, math.inf
    for number in range(settings.steps):
        lr = settings.start_lr * (settings.end_lr / settings.start_lr) ** (number / (settings.steps - 1))
        loss = step(lr)
        if not math.isfinite(loss):
            return
        average = settings.smoothing * average + (1 - settings.smoothing) * loss
        smoothed = average / (1 - settings.smoothing ** (number + 1))
        yield lr, loss, smoothed
        best = min(best, smoothed)
        if number >= MIN_POINTS and smoothed > settings.stop_factor * best:
            return


def find_rates(sweep: LRSweep, rule: str) -> FoundRates:
    """Apply every rule; `lr_min` is where the loss starts to fall, `lr_max` is by `rule`. Raises NoRatesError."""
    lrs, losses = np.array(sweep.lrs), np.array(sweep.smoothed)
    if len(lrs) < MIN_POINTS:
        raise NoRatesError(
            f"the loss exploded after {len(lrs)} steps of the sweep, and {MIN_POINTS} are needed: lower "
            "lr_find.start_lr, or raise lr_find.steps"
        )
    fall = losses[: losses.argmin() + 1].max() - losses.min()
    if losses.argmin() == 0 or fall < 0.01 * losses.min():
        raise NoRatesError(
            f"the loss did not fall between the learning rates {lrs[0]:.3g} and {lrs[-1]:.3g}: widen the range from "
            "lr_find.start_lr to lr_find.end_lr, or raise lr_find.steps"
        )
    suggestions = {name: suggest(lrs, losses) for name, suggest in RULES.items()}
    lr_min, lr_max = suggestions["descent_start"], suggestions[rule]
    if lr_min >= lr_max:
        raise NoRatesError(
            f"rule {rule} suggests lr_max {lr_max:.3g}, which is not above lr_min {lr_min:.3g}: choose another "
            "lr_find.rule"
        )
    return FoundRates(lr_min, lr_max, rule, suggestions)


def descent_start(lrs: Floats, losses: Floats) -> float:
    """Where the loss leaves its first plateau: where a straight line through the middle of the fall reaches its level.

    Over three seeds, this rate varies by a factor of 1.3. The rate where 5 % of the fall is done varies by 3.7, since
    noise moves it.
    """
    end = int(losses.argmin())
    plateau = np.median(losses[: end // 4 + 1])
    fallen = (plateau - losses[: end + 1]) / (plateau - losses[end])
    first, last = (int(np.flatnonzero(fallen < share)[-1]) for share in MIDDLE_OF_DESCENT)
    middle = slice(first, last + 2)  # plus one point on each side, so never fewer than two
    slope, intercept = np.polyfit(np.log(lrs[middle]), fallen[middle], 1)
    return float(np.exp(-intercept / slope).clip(lrs[0], lrs[end]))


def descent_end(lrs: Floats, losses: Floats) -> float:
    """The rate where the loss has climbed by 5 % from the bottom of its fall, divided by 1.4.

    The bottom is flat over half a decade, so noise decides where its minimum lies. In six sweeps (three seeds, on two
    processors) the minimum was at 0.16 to 0.32, and this rate at 0.32 to 0.46.
    """
    lowest = int(losses.argmin())
    climbed = np.flatnonzero(losses[lowest:] > CLIMB * losses[lowest])
    last = lowest + int(climbed[0]) - 1 if len(climbed) else len(losses) - 1
    return float(lrs[max(int(np.searchsorted(lrs, lrs[last] / MARGIN, side="right")) - 1, 0)])


def valley(lrs: Floats, losses: Floats) -> float:
    """Half way down the last two thirds of the longest fall: the longest decreasing subsequence of the losses.

    As fastai 2 has it.
    """
    lengths = np.ones(len(losses), dtype=int)  # of the longest one that ends at each point
    for i in range(1, len(losses)):
        lengths[i] += max((lengths[j] for j in range(i) if losses[j] > losses[i]), default=0)
    end, length = int(lengths.argmax()), int(lengths.max())
    third = length // 3
    return float(lrs[end - length + third + third // 2])


def slide(lrs: Floats, losses: Floats) -> float:
    """Move two points, `gap` steps apart, down from the highest rate while their slopes differ by more than `flat`."""
    gap, flat = 15, 0.005  # as in fastai
    slopes = np.gradient(losses)
    left = max(len(losses) - 1 - gap, 0)
    for right in range(len(losses) - 1, gap - 1, -1):
        if abs(slopes[right] - slopes[right - gap]) <= flat:
            break
        left = right - gap
    return float(lrs[left])


RULES: dict[str, Callable[[Floats, Floats], float]] = {
    "descent_start": descent_start,
    "descent_end": descent_end,
    "minimum/10": lambda lrs, losses: float(lrs[losses.argmin()] / 10),
    "steepest": lambda lrs, losses: float(lrs[np.argmin(np.diff(losses) / np.diff(np.log(lrs)))]),  # slope over log(lr)
    "valley": valley,
    "slide": slide,
}
