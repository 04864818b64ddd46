"""The outputs of a whole pipeline, written in a moment: real formats, an untrained network, invented figures."""

import csv
import inspect
import json
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from ruamel.yaml import YAML
from support.project import PROJECT

from image_classifier.data import Dataset, save_dataset
from image_classifier.model.model_file import save_model
from image_classifier.model.network import make_network
from image_classifier.model.start_file import write_start
from image_classifier.outputs.history import EpochMetrics, write_history
from image_classifier.outputs.rates import FoundRates, LRSweep
from image_classifier.project import locations
from image_classifier.project.definition import DEFINITION, LOCK, Inputs, Project, Stage, parse_stages, read_project
from image_classifier.project.hashing import path_md5
from image_classifier.project.params import Params
from image_classifier.project.records import write_inputs
from image_classifier.tracking.live import LiveRun, live_training


def defined_stages() -> dict[str, Stage]:
    """The stages of dvc.yaml, for digits."""
    return parse_stages((PROJECT / DEFINITION).read_text(encoding="utf-8"), DIGITS)


DIGITS = {"data": {"dataset": "digits", "folder": "images"}}


def ran(*stages: str) -> dict[str, Inputs]:
    """What these stages, or all, ran with, as if they had just run with the settings and files that are here."""
    project = read_project()
    return {name: project.inputs(name) for name in stages or project.stages}


def follow(*finished: EpochMetrics) -> AbstractContextManager[LiveRun]:
    """Follow a training with the settings in the working directory, after some `finished` epochs."""
    project = read_project()
    return live_training(project, project.inputs("train"), finished)


def run_download() -> None:
    """Stage download with the settings in the working directory."""
    from pipeline import download

    params = read_project().params
    download.run(params.data, params.model, params.train, Project(params, {}, {}))


def run_train() -> None:
    """Stage train with the settings in the working directory."""
    from pipeline import train

    project = read_project()
    available = {**vars(project.params), "project": project, "inputs": project.inputs("train")}
    train.run(**{name: available[name] for name in inspect.signature(train.run).parameters})


def run_stages(params: Params) -> None:
    """All stages, one after the other, in the working directory."""
    from pipeline import download, evaluate, gradcam_report, lr_find

    download.run(params.data, params.model, params.train, Project(params, {}, {}))
    lr_find.run(params.data, params.augment, params.model, params.lr_find, params.train, params.compute)
    run_train()
    evaluate.run(params.data, params.evaluate, params.compute)
    gradcam_report.run(
        params.data, params.augment, params.model, params.train, params.evaluate, params.gradcam, params.compute
    )
    note_inputs("download", "lr_find", "train", "evaluate", "gradcam_report")


def note_inputs(*stages: str) -> None:
    """Write what these stages ran with, as if it were what is here."""
    project = read_project()
    for name in stages:
        write_inputs(project.stages[name], project.inputs(name))


def epochs(number: int) -> list[EpochMetrics]:
    return [EpochMetrics(n, 0.1 / n, 2 / n, 1 - 0.5 / n, 2.1 / n, 1 - 0.6 / n, "test") for n in range(1, number + 1)]


def write_outputs(folder: Path, params: Params, accuracy: float = 0.75, seed: int = 0) -> None:
    """Fill `folder` with the outputs of all stages."""
    outputs = [path for stage in defined_stages().values() for path in stage.outs]
    for path in outputs:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(20) % 10
    classes, mean, std = tuple("0123456789"), (0.4, 0.5, 0.6), (0.2, 0.2, 0.2)
    dataset = Dataset("digits", classes, mean, std, images, labels, images, labels)
    save_dataset(dataset, folder / "data" / "digits")

    write_start(folder / locations.START, {})
    curve = LRSweep((0.001, 0.01, 0.1), (2.3, 2.0, 1.5), (2.3, 2.2, 2.0))
    curve.write_csv(folder / locations.LR_CURVE)
    FoundRates(0.001, 0.1, "valley", {"valley": 0.1, "minimum/10": 0.2}).write_json(folder / locations.LR_FOUND)

    torch.manual_seed(seed)
    save_model(folder / locations.MODEL, make_network(params.model, 10, mean, std), params.model, dataset)
    write_history(folder / locations.HISTORY, epochs(params.train.epochs))
    write_json(folder / locations.TRAIN_METRICS, {"epochs": params.train.epochs, "lr_min": 0.001, "lr_max": 0.1})

    write_metrics(folder, accuracy)
    write_table(folder / locations.PREDICTIONS, [["index", "true", "predicted"], [0, "0", "1"]])
    write_table(folder / locations.CONFUSION, [["true", *classes], *([name, *[2] * 10] for name in classes)])
    write_table(folder / locations.CONFUSED_PAIRS, [["true", "predicted", "count", "share"], ["0", "1", 2, 0.5]])
    write_table(folder / locations.MISCLASSIFIED, [["index", "true", "predicted"], [0, "0", "1"]])
    for path in outputs:
        if path.endswith(".png"):
            Image.fromarray(images[0]).save(folder / path)
    (folder / locations.GRADCAM_PAGE).write_text("<!doctype html><title>Report</title>", encoding="utf-8")
    (folder / locations.MODEL_CARD).write_text("# Model card\n", encoding="utf-8")
    for name in defined_stages():
        write_json(folder / locations.INPUTS / f"{name}.json", {"settings": {}, "files": {}})


def write_lock(*stages: str) -> None:
    """Write a `dvc.lock` in which these stages ran with the settings and files that are here."""
    note_inputs(*stages)
    project = read_project()
    recorded = {
        name: {
            "deps": [{"path": path, "md5": md5} for path, md5 in project.inputs(name).files.items()],
            "params": {locations.PARAMS.name: project.settings_of(name)},
            "outs": [
                {"path": path, "md5": path_md5(Path(path))} for path in project.stages[name].outs if Path(path).exists()
            ],
        }
        for name in stages
    }
    YAML().dump({"schema": "2.0", "stages": recorded}, LOCK)


def write_metrics(folder: Path, accuracy: float) -> None:
    """Write metrics with this accuracy, as stage evaluate does."""
    per_class = dict.fromkeys("0123456789", accuracy)
    metrics = {"accuracy": accuracy, "loss": 0.5, "top2_accuracy": 0.9, "per_class_accuracy": per_class}
    write_json(folder / locations.TEST_METRICS, metrics)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def write_table(path: Path, rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def write_dvc_project(folder: Path) -> None:
    """Make `folder` a committed DVC project whose stages copy their outputs from `ready/`; train also publishes."""
    stages: dict[str, Any] = {
        name: {
            "cmd": [f"mkdir -p {Path(path).parent} && cp -r $DVC_ROOT/ready/{path} {path}" for path in outs],
            "params": list(stage.params),
            "deps": [path for path in stage.deps if not path.startswith(("src/", "pipeline/", "images", "weights"))],
            "outs": list(outs),
            "meta": {"mlflow": stage.published},
        }
        for name, stage in defined_stages().items()
        if (outs := [path for path in stage.outs if Path(path).parent != locations.INPUTS])
    }
    stages["train"]["cmd"].append(f"{sys.executable} $DVC_ROOT/ready/publish.py train")
    (folder / "ready" / "publish.py").write_text(PUBLISH, encoding="utf-8")
    YAML().dump({"stages": stages}, folder / "dvc.yaml")
    (folder / ".gitignore").write_text("/ready/\n/mlruns/\n/data/\n/models/\n/reports/\n", encoding="utf-8")
    run("git", "init", "--quiet", cwd=folder)
    run("dvc", "init", "--quiet", cwd=folder)
    commit(folder, "Pipeline")


PUBLISH = f"""
import sys
sys.path.insert(0, {str(PROJECT / "src")!r})
from image_classifier.project.definition import read_project
from image_classifier.tracking.publication import publish_stage
project = read_project()
publish_stage(sys.argv[1], project, project.inputs(sys.argv[1]))
"""


def commit(folder: Path, message: str) -> None:
    author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    run("git", "add", ".", cwd=folder)
    run("git", *author, "commit", "--quiet", "--message", message, cwd=folder)


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command and return what it prints; if it fails, show its errors."""
    words = [sys.executable, "-m", "dvc", *command[1:]] if command[0] == "dvc" else list(command)
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout
