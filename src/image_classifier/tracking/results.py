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

from image_classifier.outputs.history import EpochMetrics, read_history
from image_classifier.outputs.rates import NoRatesError, read_found_rates, read_sweep
from image_classifier.project import locations
from image_classifier.project.definition import Inputs, Project, Record, read_lock
from image_classifier.project.hashing import file_md5, path_md5
from image_classifier.project.settings import changed_setting

Key = tuple[str, int]  # name and step of a metric's value
Values = dict[Key, float]


@dataclass(frozen=True)
class Results:
    """The outputs that a run shows: of stages that ran with the current settings, as all stages before them did."""

    outs: Mapping[str, tuple[str, ...]]  # paths by stage, in the order of dvc.yaml
    outdated: Mapping[str, str]  # why the outputs of the other stages cannot be shown, and what to do, by stage
    has_other_settings: bool  # whether a stage ran with other settings than the current ones
    data_md5: str | None  # of the data set's folder

    def files(self) -> dict[str, Path]:
        """Every report to show, under its path among the run's artifacts."""
        paths = [Path(path) for outs in self.outs.values() for path in outs]
        return {
            path.relative_to(locations.REPORTS).as_posix(): path
            for path in paths
            if path.is_relative_to(locations.REPORTS) and path.is_file()
        }

    @cached_property
    def values(self) -> Values:
        """Every metric value to show; infinities and NaN, which MLflow cannot chart, are left out."""
        readers = {"lr_find": _sweep_values, "train": _training_values, "evaluate": _test_values}
        values = (pair for stage, read in readers.items() if stage in self.outs for pair in read())
        return {key: value for key, value in values if math.isfinite(value)}


def read_results(project: Project, completed: Mapping[str, Inputs]) -> Results:
    """Compare the files with what the stages ran with: `completed` stages just now, the others as in `dvc.lock`."""
    records = known_records(project, completed)
    outdated = {name: why for name in project.stages if (why := _why_outdated(project, name, records, completed))}
    shown = {name: stage.outs for name, stage in project.stages.items() if stage.published and name not in outdated}
    ran = [name for name in project.stages if name in records]
    has_other_settings = any(changed_setting(records[name].inputs.settings, project.settings_of(name)) for name in ran)
    folder = (locations.DATA / project.params.data.dataset).as_posix()
    digests = (record.outs[folder].removesuffix(".dir") for record in records.values() if folder in record.outs)
    return Results(shown, outdated, has_other_settings, next(digests, None))


def known_records(project: Project, completed: Mapping[str, Inputs]) -> dict[str, Record]:
    """The records of `dvc.lock`, and those that DVC is about to make of the stages that have just run."""
    made = {name: [path for path in project.stages[name].outs if Path(path).exists()] for name in completed}
    just_now = {
        name: Record(inputs, {path: path_md5(Path(path)) for path in made[name]}) for name, inputs in completed.items()
    }
    return read_lock() | just_now


def why_stale(project: Project, inputs: Inputs, records: Mapping[str, Record]) -> str | None:
    """Why the files in `inputs` were not made with the current settings by all stages before, in words; None if so.

    `dvc repro --single-item` and `--downstream` run a stage although a stage before it has other settings now.
    """
    for name, stage in project.stages.items():
        if not any(is_inside(path, out) for path in inputs.files for out in stage.outs):
            continue
        if name not in records:
            return f"{name} has not run: run `dvc repro`"
        if changed := changed_setting(records[name].inputs.settings, project.settings_of(name)):
            return f"{name} ran with {changed}: run `dvc repro`"
        for path, md5 in records[name].outs.items():
            if inputs.files.get(path, md5) != md5:
                return f"{path} has changed: run `dvc pull` or `dvc repro`"
        if reason := why_stale(project, records[name].inputs, records):
            return reason
    return None


def is_inside(path: str, out: str) -> bool:
    """Whether a dependency is an output, lies in one, or holds one."""
    return Path(path).is_relative_to(out) or Path(out).is_relative_to(path)


def _why_outdated(
    project: Project, name: str, records: Mapping[str, Record], completed: Mapping[str, Inputs]
) -> str | None:
    """Why a stage's outputs on disk do not follow from the current settings; changes of its code are left to DVC."""
    if name not in records:
        return f"{name} has not run: run `dvc repro`"
    record = records[name]
    if changed := changed_setting(record.inputs.settings, project.settings_of(name)):
        return f"{name} ran with {changed}: run `dvc repro`"
    if reason := why_stale(project, record.inputs, records):
        return reason
    if name in completed or not project.stages[name].published:  # the data set, 180 MB, need not be read
        return None
    made = {path for stage in project.stages.values() if stage.published for path in stage.outs}
    for path, md5 in {**record.inputs.files, **record.outs}.items():
        if path in made and not Path(path).is_file():
            return f"{path} is missing: run `dvc pull` or `dvc repro`"
        if path in made and file_md5(Path(path)) != md5:
            return f"{path} has changed: run `dvc pull` or `dvc repro`"
    return None


def epoch_values(epoch: EpochMetrics) -> Values:
    """An epoch's metrics as values at that step."""
    return {(f"epoch/{name}", epoch.epoch): value for name, value in epoch.as_row().items() if name != "epoch"}


def _sweep_values() -> Iterator[tuple[Key, float]]:
    sweep = read_sweep(locations.LR_CURVE)
    for name, curve in (("lr", sweep.lrs), ("loss", sweep.losses), ("smoothed_loss", sweep.smoothed)):
        yield from (((f"lr_find/{name}", step), value) for step, value in enumerate(curve))
    with suppress(NoRatesError):
        found = read_found_rates(locations.LR_FOUND)
        yield ("lr_find/lr_min", 0), found.lr_min
        yield ("lr_find/lr_max", 0), found.lr_max
        yield from _group("lr_find/suggestion", found.suggestions)


def _training_values() -> Iterator[tuple[Key, float]]:
    for epoch in read_history(locations.HISTORY):
        yield from epoch_values(epoch).items()
    used = json.loads(locations.TRAIN_METRICS.read_text(encoding="utf-8"))
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
    return dict(json.loads(locations.TEST_METRICS.read_text(encoding="utf-8")))
