"""The results on disk: which stages' outputs belong to the current settings, and what a run shows of them.

Metrics get these names:

    epoch/train_loss, epoch/test_accuracy, epoch/lr, …    one value an epoch (validation_… with held-out images)
    evaluate/accuracy, evaluate/per_class/CLASS, …        figures of the finished model on the test set
    lr_min, lr_max                                        the ends of the cycle, as used
    lr_find/loss, lr_find/smoothed_loss, lr_find/lr       one value a step of the sweep
    lr_find/lr_min, lr_find/suggestion/RULE, …            what the sweep found

MLflow shows the charts in sections by prefix. These prefixes put the sections in the order in which people read them.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cifar_resnet import layout
from cifar_resnet.history import EpochMetrics, read_history
from cifar_resnet.lr_range import NoRatesError, read_found_rates, read_sweep
from cifar_resnet.project import Project, Record, changed_setting, file_md5, path_md5, read_lock

Key = tuple[str, int]  # name and step of a metric's value
Values = dict[Key, float]


@dataclass(frozen=True)
class Results:
    """The outputs that a run shows: those of the stages that ran with the current settings."""

    outs: Mapping[str, tuple[str, ...]]  # paths by stage, in the order of dvc.yaml
    obstacle: str | None  # why nothing can be shown, and what to do
    data_md5: str | None  # of the data set's folder

    def files(self) -> dict[str, Path]:
        """Every report to show, under its path among the run's artifacts."""
        paths = [Path(path) for outs in self.outs.values() for path in outs]
        return {
            path.relative_to(layout.REPORTS).as_posix(): path
            for path in paths
            if path.is_relative_to(layout.REPORTS) and path.is_file()
        }

    @cached_property
    def values(self) -> Values:
        """Every metric value to show; infinities and NaN, which MLflow cannot chart, are left out."""
        readers = {"lr_find": _sweep_values, "train": _training_values, "evaluate": _test_values}
        values = (pair for stage, read in readers.items() if stage in self.outs for pair in read())
        return {key: value for key, value in values if math.isfinite(value)}


def read_results(project: Project, completed: frozenset[str]) -> Results:
    """Compare the files with `dvc.lock`. `completed` stages have just run here, and DVC has not recorded them yet."""
    lock = read_lock()
    shown = {name: stage.outs for name, stage in project.stages.items() if stage.published}
    current, obstacle = dict(shown), None
    for name in (name for name in shown if name not in completed):  # in order: the first reason is shown
        changed = changed_setting(lock[name].inputs.settings, project.settings_of(name)) if name in lock else None
        if changed and not completed:
            obstacle = obstacle or f"{name} ran with {changed}: run `dvc repro`"
        if reason := changed or _changed_file(name, lock, shown):
            del current[name]
            if name == "train":
                obstacle = obstacle or f"train: {reason}: run `dvc pull` or `dvc repro`"
    folder = layout.DATA / project.params.data.dataset
    digests = [record.outs[folder.as_posix()] for record in lock.values() if folder.as_posix() in record.outs]
    if completed and folder.exists():  # the stage has just hashed it, so this takes no time
        digests.insert(0, path_md5(folder))
    return Results(current, obstacle, digests[0].removesuffix(".dir") if digests else None)


def _changed_file(stage: str, lock: Mapping[str, Record], shown: Mapping[str, tuple[str, ...]]) -> str | None:
    """Why a stage's outputs do not follow from its inputs on disk; changes of its code are left to DVC."""
    if stage not in lock:
        return "has not run"
    made_by = {path: md5 for record in lock.values() for path, md5 in record.outs.items()}
    in_run = {path for outs in shown.values() for path in outs}
    for path, md5 in {**lock[stage].inputs.files, **lock[stage].outs}.items():
        if path in in_run and not Path(path).is_file():
            return f"{path} is missing"
        # Compare the data set, 180 MB, by its record: it need not be read.
        if md5 != (file_md5(Path(path)) if path in in_run else made_by.get(path, md5)):
            return f"{path} has changed"
    return None


def epoch_values(epoch: EpochMetrics) -> Values:
    """An epoch's metrics as values at that step."""
    return {(f"epoch/{name}", epoch.epoch): value for name, value in epoch.as_row().items() if name != "epoch"}


def _sweep_values() -> Iterator[tuple[Key, float]]:
    sweep = read_sweep(layout.LR_CURVE)
    for name, curve in (("lr", sweep.lrs), ("loss", sweep.losses), ("smoothed_loss", sweep.smoothed)):
        yield from (((f"lr_find/{name}", step), value) for step, value in enumerate(curve))
    with suppress(NoRatesError):
        found = read_found_rates(layout.LR_FOUND)
        yield ("lr_find/lr_min", 0), found.lr_min
        yield ("lr_find/lr_max", 0), found.lr_max
        yield from _group("lr_find/suggestion", found.suggestions)


def _training_values() -> Iterator[tuple[Key, float]]:
    for epoch in read_history(layout.HISTORY):
        yield from epoch_values(epoch).items()
    used = json.loads(layout.TRAIN_METRICS.read_text(encoding="utf-8"))
    yield from (((name, 0), used[name]) for name in ("lr_min", "lr_max"))


def _test_values() -> Iterator[tuple[Key, float]]:
    for name, value in test_metrics().items():
        if isinstance(value, dict):
            yield from _group(f"evaluate/{name.removesuffix('_accuracy')}", value)
        else:
            yield (f"evaluate/{name}", 0), value


def _group(prefix: str, numbers: Mapping[str, float]) -> Iterator[tuple[Key, float]]:
    """Values with names made from any texts: MLflow allows 250 characters and few signs. All names differ."""
    taken: list[str] = []
    for text, number in numbers.items():
        name = re.sub(r"[^\w.\- :]", "_", text)[:200]
        taken.append(f"{name} {len(taken)}" if name in taken else name)
        yield (f"{prefix}/{taken[-1]}", 0), number


def test_metrics() -> dict[str, Any]:
    """The metrics that stage evaluate wrote."""
    return dict(json.loads(layout.TEST_METRICS.read_text(encoding="utf-8")))
