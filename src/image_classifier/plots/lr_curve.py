"""The learning-rate range test as a picture."""

from pathlib import Path

import numpy as np

from image_classifier.outputs.rates import FoundRates, LRSweep
from image_classifier.plots.style import QUIET, RATE, TRAIN, figure

MARKERS = "os^vDPX"  # at least as many as rules


def plot_lr_curve(sweep: LRSweep, found: FoundRates | None, path: Path) -> None:
    """Loss over learning rate, with every rule's suggestion and the two rates chosen, if the sweep showed any."""
    with figure(path, 9.5, 4.5) as drawing:
        axes = drawing.subplots()
        axes.plot(sweep.lrs, sweep.losses, color=QUIET, alpha=0.35, linewidth=1, label="loss of each batch")
        axes.plot(sweep.lrs, sweep.smoothed, color=TRAIN, label="smoothed")
        for name, lr, line in (("lr_min", found.lr_min, ":"), ("lr_max", found.lr_max, "--")) if found else ():
            axes.axvline(lr, color=RATE, linestyle=line, label=f"{name} = {lr:.3g}")
        # Named in the legend: a name beside its point covers lines or other names.
        for (lr, rules), marker in zip(_rules_by_rate(found) if found else (), MARKERS, strict=False):
            loss = float(np.interp(np.log(lr), np.log(sweep.lrs), sweep.smoothed))
            axes.plot(
                lr,
                loss,
                marker,
                color=QUIET,
                markersize=8,
                markeredgecolor="white",
                label="\n".join(f"{rule}: {lr:.3g}" for rule in rules),
                zorder=3,
            )
        low, high = min(sweep.smoothed, default=0), max(sweep.smoothed, default=0)
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title="Learning-rate range test")
        if low < high:
            axes.set_ylim(low - 0.25 * (high - low), high + 0.35 * (high - low))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _rules_by_rate(found: FoundRates) -> list[tuple[float, list[str]]]:
    """Each suggested rate with the names of the rules that suggest it, the lowest rate first."""
    rules: dict[float, list[str]] = {}
    for rule, lr in found.suggestions.items():
        rules.setdefault(lr, []).append(rule)
    return sorted(rules.items())
