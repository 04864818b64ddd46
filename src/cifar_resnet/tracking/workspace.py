"""What the files on disk say: which stages' outputs belong to the current settings, and what a run shows of them.

Metrics get these names:

    epoch/train_loss, epoch/test_accuracy, epoch/lr, …    one value an epoch (validation_… with held-out images)
    evaluate/accuracy, evaluate/loss, …                   figures of the finished model on the test set
    lr_min, lr_max                                        the ends of the cycle, as used
    lr_find/loss, lr_find/smoothed_loss, lr_find/lr       one value a step of the sweep
    lr_find/lr_min, lr_find/suggestion/RULE, …            what the sweep found
    per_class_accuracy/CLASS                              of the finished model

A prefix is a section of MLflow's charts, and these names put the sections into the order in which they are looked at.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cifar_resnet import layout
from cifar_resnet.history import EpochMetrics, read_history
from cifar_resnet.lock import changed_setting, read_lock
from cifar_resnet.params import Params
from cifar_resnet.tracking.state import file_md5

OUTPUTS = {  # of the stages that a run shows, in their order
    "lr_find": (layout.LR_CURVE, layout.LR_FOUND, layout.LR_CURVE_PLOT),
    "train": (layout.MODEL, layout.HISTORY, layout.TRAIN_METRICS),
    "evaluate": (
        layout.TEST_METRICS, layout.PREDICTIONS, layout.CONFUSION, layout.CONFUSION_PLOT, layout.CONFUSED_PAIRS,
        layout.MISCLASSIFIED, layout.MISCLASSIFIED_PLOT, layout.RELIABILITY_PLOT, layout.LEARNING_CURVES,
    ),
    "gradcam_report": (layout.GRADCAM_PAGE, layout.GRADCAM_PLOT),
}  # fmt: skip


class Value(NamedTuple):
    """One value of a metric."""

    name: str
    step: int
    value: float


@dataclass(frozen=True)
class Workspace:
    """Which stages' outputs belong to the settings, and why the others' do not."""

    current: frozenset[str]
    stale: Mapping[str, str]  # stage: reason
    edited: str | None  # a setting that a stage has run with another value of, in words
    data_md5: str | None  # of the data set's folder

    def files(self) -> dict[str, Path]:
        """Every report to show, under its path among the run's artifacts."""
        paths = [path for stage, paths in OUTPUTS.items() if stage in self.current for path in paths]
        return {
            path.relative_to(layout.REPORTS).as_posix(): path
            for path in paths
            if path.is_relative_to(layout.REPORTS) and path.is_file()
        }

    def values(self) -> list[Value]:
        """Every metric value to show; infinities and NaN, which MLflow cannot chart, are left out."""
        readers = {"lr_find": _sweep_values, "train": _training_values, "evaluate": _test_values}
        values = [value for stage, read in readers.items() if stage in self.current for value in read()]
        return [value for value in values if math.isfinite(value.value)]


def inspect(params: Params, completed: frozenset[str]) -> Workspace:
    """Compare the files with `dvc.lock`; `completed` stages have just run in this process, before DVC locks them."""
    stages = read_lock()
    differing, edited = {}, None
    for stage in OUTPUTS:
        if stage in completed:
            continue
        changed = changed_setting(stages.get(stage, {}), params)
        edited = edited or (changed and f"{stage} ran with {changed}")
        if reason := changed or _changed_file(stage, stages):
            differing[stage] = reason
    data = stages.get("download", {}).get("outs", [])
    folder = (layout.DATA / params.data.dataset).as_posix()
    data_md5 = next((out["md5"].removesuffix(".dir") for out in data if out["path"] == folder), None)
    return Workspace(frozenset(OUTPUTS) - frozenset(differing), differing, edited, data_md5)


def epoch_values(epoch: EpochMetrics) -> list[Value]:
    """An epoch's metrics as values at that step."""
    row = epoch.as_row().items()
    return [Value(f"epoch/{name}", epoch.epoch, value) for name, value in row if name != "epoch"]


def _changed_file(stage: str, stages: Mapping[str, Any]) -> str | None:
    """Why a stage's outputs are not what its inputs on disk lead to; its code is DVC's business alone."""
    if stage not in stages:
        return "has not run"
    made_by = {out["path"]: out["md5"] for entry in stages.values() for out in entry.get("outs", [])}
    shown = {path.as_posix() for paths in OUTPUTS.values() for path in paths}
    for file in (*stages[stage].get("deps", []), *stages[stage]["outs"]):
        path = file["path"]
        if path in shown:
            if not Path(path).is_file():
                return f"{path} is missing"
            if file_md5(Path(path)) != file["md5"]:
                return f"{path} has changed"
        elif path in made_by and made_by[path] != file["md5"]:  # the data set: 180 MB that need no reading here
            return f"{path} has changed"
    return None


def _sweep_values() -> Iterator[Value]:
    with layout.LR_CURVE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for name in ("lr", "loss", "smoothed_loss"):
                yield Value(f"lr_find/{name}", int(row["step"]), float(row[name]))
    found = json.loads(layout.LR_FOUND.read_text(encoding="utf-8"))
    yield Value("lr_find/lr_min", 0, found["lr_min"])
    yield Value("lr_find/lr_max", 0, found["lr_max"])
    for rule, rate in found["suggestions"].items():
        yield Value(f"lr_find/suggestion/{rule.replace('/', '_')}", 0, rate)


def _training_values() -> Iterator[Value]:
    for epoch in read_history(layout.HISTORY):
        yield from epoch_values(epoch)
    used = json.loads(layout.TRAIN_METRICS.read_text(encoding="utf-8"))
    yield Value("lr_min", 0, used["lr_min"])
    yield Value("lr_max", 0, used["lr_max"])


def _test_values() -> Iterator[Value]:
    for name, value in test_metrics().items():
        if isinstance(value, dict):
            yield from (Value(f"{name}/{part}", 0, number) for part, number in value.items())
        else:
            yield Value(f"evaluate/{name}", 0, value)


def test_metrics() -> dict[str, Any]:
    """What `evaluate` measured."""
    return dict(json.loads(layout.TEST_METRICS.read_text(encoding="utf-8")))
