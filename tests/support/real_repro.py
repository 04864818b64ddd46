"""`dvc repro` for real: whole, and interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run
from support.finished_pipeline import run

LOCK = Path("dvc.lock")
STAGES = ["download", "lr_find", "train", "evaluate", "gradcam_report"]
Found = TypeVar("Found")


def dvc(*arguments: str) -> str:
    """Run a DVC command in the working directory, and return what it prints."""
    return run("dvc", *arguments, cwd=Path.cwd())


def executed(output: str) -> list[str]:
    """The stages that DVC says it ran."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def start_repro(log: Path) -> psutil.Popen:
    """Start `dvc repro` in a process group of its own, as a shell does; what it prints goes to a file."""
    with log.open("wb") as output:
        command = [sys.executable, "-m", "dvc", "repro"]
        return psutil.Popen(command, stdout=output, stderr=subprocess.STDOUT, process_group=0)


def running_stage(repro: psutil.Popen) -> psutil.Process | None:
    """The process of the stage that `dvc repro` runs at the moment."""
    with suppress(psutil.NoSuchProcess):
        for process in repro.children(recursive=True):
            if any(word.startswith("pipeline.") for word in process.cmdline()):
                return process
    return None


def send(sent: signal.Signals, repro: psutil.Popen, target: str) -> None:
    """Signal the stage, DVC, or both, as Ctrl-C does; a process that has already ended is ignored."""
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        if target == "both":
            os.killpg(repro.pid, sent)
        elif target == "dvc":
            repro.send_signal(sent)
        elif stage := running_stage(repro):
            stage.send_signal(sent)


def wait_for(find: Callable[[], Found | None], seconds: float = 300) -> Found:
    """Call `find` until it finds something, and return that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := find():
            return found
        time.sleep(0.01)
    raise TimeoutError(f"nothing was found in {seconds} s")


def all_runs(project: Path) -> list[Run]:
    """Every MLflow run of a project."""
    client = MlflowClient(f"sqlite:///{project}/mlruns/mlflow.db")
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))
