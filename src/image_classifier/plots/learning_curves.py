"""A training's epochs as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from image_classifier.outputs.history import EpochMetrics
from image_classifier.plots.style import HELD_OUT, RATE, TRAIN, figure, percent, run_styles, short


def plot_learning_curves(history: Sequence[EpochMetrics], path: Path) -> None:
    """Loss, accuracy and learning rate of each epoch, side by side."""
    with figure(path, 13, 4) as drawing:
        draw_learning_curves({"": history}, drawing)


def draw_learning_curves(histories: Mapping[str, Sequence[EpochMetrics]], drawing: Figure) -> None:
    """Draw the three panels into a figure, with each run's curves, by name."""
    loss, accuracy, rate = drawing.subplots(1, 3)
    for (name, history), style in zip(histories.items(), run_styles(len(histories)), strict=True):
        epochs = [metrics.epoch for metrics in history]
        line = {"linestyle": style, "marker": "o" if len(history) < 40 else "", "markersize": 4}
        labels = [", ".join(filter(None, [kind, short(name)])) for kind in ("train", history[0].held_out_name)]
        for label, of_train, color in zip(labels, (True, False), (TRAIN, HELD_OUT), strict=True):
            losses = [m.train_loss if of_train else m.held_out_loss for m in history]
            accuracies = [m.train_accuracy if of_train else m.held_out_accuracy for m in history]
            loss.plot(epochs, losses, color=color, label=label, **line)
            accuracy.plot(epochs, accuracies, color=color, label=label, **line)
        rate.plot(epochs, [m.lr for m in history], color=RATE, label=short(name), **line)

    last = max((history[-1] for history in histories.values()), key=lambda metrics: metrics.epoch)
    epochs_done = f"{last.epoch} epoch{'' if last.epoch == 1 else 's'}"
    outcome = f": {last.held_out_name} {percent(last.held_out_accuracy, 2)} after {epochs_done}"
    loss.set(title="Cross-entropy per image", ylim=(0, None))
    loss.legend()
    accuracy.set(title=f"Accuracy{outcome if len(histories) == 1 else ''}")
    accuracy.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")  # no more decimals than ticks need
    accuracy.legend(loc="lower right")
    rate.set(title="Learning rate at the end of the epoch", ylim=(0, None))
    if len(histories) > 1:
        rate.legend()
    for axes in (loss, accuracy, rate):
        axes.set(xlabel="epoch", xlim=(0.5, last.epoch + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def describe_learning_curves(history: Sequence[EpochMetrics]) -> tuple[str, str, str]:
    """The three panels in words: how they start and end."""
    first, last = history[0], history[-1]
    span, held_out = f"from epoch {first.epoch} to {last.epoch}", first.held_out_name
    return (
        f"{span}: train {first.train_loss:.3f} to {last.train_loss:.3f}, "
        f"{held_out} {first.held_out_loss:.3f} to {last.held_out_loss:.3f}",
        f"{span}: train {percent(first.train_accuracy)} to {percent(last.train_accuracy)}, "
        f"{held_out} {percent(first.held_out_accuracy)} to {percent(last.held_out_accuracy, 2)}",
        f"{span}: {first.lr:.3g} to {last.lr:.3g}, at most {max(metrics.lr for metrics in history):.3g}",
    )
