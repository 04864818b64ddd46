"""`python tests/records_check.py [PROJECT [STORE]]`: do MLflow's runs say what DVC recorded?

This uses no code of the project. DVC's records are the stages in each dvc.lock, of all commits, DVC experiments and the
working tree, and in DVC's run cache. A finished run's weights (a tag) and reports (its artifacts) are found in them by
their MD5s, and so are the stages that made the inputs of these stages, all the way back. So it is known which settings
and data shaped each result. A run's metrics are compared with its reports.

A run is false if its settings, data, learning rates or metrics differ. It is unknown if no record has its weights, its
reports or their inputs. The exit status is 1 if a run is false.
"""

import csv
import hashlib
import json
import math
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

STATE, MODEL = "mlflow.pipeline.state", "mlflow.pipeline.model"  # tags of a published run
WEIGHTS, RATES = "models/model.pt", "reports/lr_find/lr_find.json"
TABLES = {"epoch/": "reports/train/history.csv", "lr_find/": "reports/lr_find/curve.csv"}  # metrics' names start so
FIGURES = {"": "reports/train/metrics.json", "evaluate/": "reports/evaluate/metrics.json", "lr_find/": RATES}
GROUPS = {  # starts of names; the rest is any text
    "per_class_accuracy": "evaluate/per_class/",
    "unsure": "evaluate/unsure/",
    "suggestions": "lr_find/suggestion/",
}
Values = dict[str, list[tuple[int, float]]]  # by name, or start of the names in a group: step and value, sorted


@dataclass(frozen=True, eq=False)
class Record:
    """A stage as DVC recorded it: settings by dotted name, MD5s by path."""

    settings: dict[str, Any]
    deps: dict[str, str]
    outs: dict[str, str]


def read_records(project: Path) -> list[Record]:
    """All that DVC recorded, as far as it is still known, each once."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=project, capture_output=True, text=True, check=False).stdout

    commits = git("rev-list", "--all", "--full-history", "--", "./dvc.lock").split()
    locks = {git("show", f"{commit}:./dvc.lock") for commit in commits}
    locks |= {file.read_text(encoding="utf-8") for file in project.glob("dvc.lock")}
    cached = {file.read_text(encoding="utf-8") for file in project.glob(".dvc/cache/runs/*/*/*")}
    found = {}
    for text in locks | cached:
        with suppress(YAMLError, AttributeError):  # a merge conflict, or a file that a kill cut off
            content = YAML(typ="safe").load(text)
            for stage in [content] if text in cached else content["stages"].values():
                settings = dict(flat(stage.get("params", {}).get("params.yaml", {})))
                files = [{file["path"]: file["md5"] for file in stage.get(kind, ())} for kind in ("deps", "outs")]
                found[json.dumps([settings, files], sort_keys=True)] = Record(settings, *files)
    return list(found.values())


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        yield from flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]


def is_equal(one: object, other: object) -> bool:
    """Whether two settings are equal; MLflow keeps texts."""
    with suppress(ValueError):
        return float(str(one)) == float(str(other))
    return str(one) == str(other)


def shortest(lists: Iterable[list[str]]) -> list[str]:
    return min(lists, key=lambda each: len(each), default=[])


def beside(values: Sequence[tuple[int, float]], others: Sequence[tuple[int, float]]) -> str:
    """The first of the values that the others lack, in words."""
    missing = [pair for pair in values if pair not in others] or values
    return f"{missing[0][1]} at step {missing[0][0]}" if missing else "missing"


def reported(reports: Mapping[str, Path]) -> Values:
    """The metric values that a run's reports hold; MLflow has no NaN or infinity."""
    values = defaultdict(list)
    for start, path in TABLES.items():
        rows = csv.DictReader(reports[path].read_text(encoding="utf-8").splitlines() if path in reports else [])
        for number, row in enumerate(rows):
            step = int(row.pop("epoch", number))  # a step of the sweep is a row
            row.pop("step", None)
            for name, value in row.items():
                values[start + name].append((step, float(value)))
    for start, path in FIGURES.items():
        content = json.loads(reports[path].read_text(encoding="utf-8")) if path in reports else {}
        for name, value in content.items():
            if isinstance(value, dict):
                values[GROUPS[name]] = [(0, float(number)) for number in value.values()]
            elif isinstance(value, int | float) and (start or name in ("lr_min", "lr_max")):
                values[start + name].append((0, float(value)))  # the training's other figures are its last epoch's
    finite = {name: sorted(pair for pair in pairs if math.isfinite(pair[1])) for name, pairs in values.items()}
    return {name: pairs for name, pairs in finite.items() if pairs}


def logged(client: MlflowClient, run: Run) -> Values:
    """The metric values that a run has, without those of the machine."""
    values: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for name in run.data.metrics:
        if not name.startswith("system/"):
            key = next((start for start in GROUPS.values() if name.startswith(start)), name)
            history = client.get_metric_history(run.info.run_id, name)
            values[key] += [(metric.step, metric.value) for metric in history]
    return {name: sorted(pairs) for name, pairs in values.items()}


def judge(client: MlflowClient, run: Run, records: Sequence[Record]) -> tuple[list[str], list[str]]:
    """What is false in a run, and what no record tells."""
    shown, files = run.data.params, {WEIGHTS: run.data.tags[MODEL]}
    for dataset_input in run.inputs.dataset_inputs if run.inputs else ():
        files[f"data/{dataset_input.dataset.name}"] = f"{dataset_input.dataset.digest}.dir"
    with TemporaryDirectory() as name:
        folder = Path(client.download_artifacts(run.info.run_id, "", name))
        reports = {f"reports/{path.relative_to(folder)}": path for path in folder.rglob("*") if path.is_file()}
        for path, file in reports.items():
            files[path] = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        expected, actual = reported(reports), logged(client, run)
        rates = json.loads(reports[RATES].read_text(encoding="utf-8")) if RATES in reports else {}

    @cache
    def contradictions(record: Record) -> list[str]:
        """What the run says otherwise than a record, and than the best fitting ones of the stages before it."""
        found = [
            f"{name} is {shown.get(name)}, DVC recorded {value}"
            for name, value in record.settings.items()
            if not is_equal(shown.get(name), value)
        ]
        for path, md5 in record.deps.items():
            if files.get(path, md5) != md5:
                found.append(f"{path} has the MD5 {files[path]}, DVC recorded {md5}")
            found += shortest(contradictions(maker) for maker in records if maker.outs.get(path) == md5)
        return found

    false: list[str] = []
    unknown = []
    for path, md5 in files.items():
        made = [record for record in records if record.outs.get(path) == md5]
        makers = [record for record in made if all(files.get(*out) == out[1] for out in record.outs.items())]
        if makers:
            false += shortest(map(contradictions, makers))
        elif path == WEIGHTS or any(path in record.outs for record in records):  # no file that people added
            unknown.append(path)
    for name in sorted(expected.keys() | actual.keys()):
        here, there = actual.get(name, []), expected.get(name, [])
        if here != there:
            false.append(f"{name} is {beside(here, there)}, its reports say {beside(there, here)}")
    for name in ("lr_min", "lr_max"):
        rate = rates.get(name) if shown[f"train.{name}"] == "find" else float(shown[f"train.{name}"])
        if rate is not None and actual.get(name, [(0, rate)]) != [(0, rate)]:
            false.append(f"{name} is {beside(actual[name], [])}, its settings say {rate}")
    if (epochs := len(actual.get("epoch/lr", ()))) != int(shown["train.epochs"]):
        false.append(f"train.epochs is {shown['train.epochs']}, it shows {epochs}")
    return list(dict.fromkeys(false)), [f"no record has its {path}" for path in unknown]


def main(project: Path, store: str) -> int:
    """Print a line for whatever is false or unknown in a run, and a summary; returns the number of false runs."""
    client, records = MlflowClient(store), read_records(project)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, "attributes.status = 'FINISHED'", max_results=1000)
    verdicts = Counter[str]()
    for run in (run for run in found if STATE in run.data.tags):
        false, unknown = judge(client, run, records)
        verdict = "false" if false else "unknown" if unknown else "true"
        verdicts[verdict] += 1
        for reason in false or unknown:
            print(f"{verdict}: run {run.info.run_name} ({run.info.run_id}): {reason}")
    print(f"runs: {verdicts['true']} true, {verdicts['unknown']} unknown, {verdicts['false']} false")
    return verdicts["false"]


if __name__ == "__main__":
    project = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    sys.exit(bool(main(project, sys.argv[2] if len(sys.argv) > 2 else f"sqlite:///{project}/mlruns/mlflow.db")))
