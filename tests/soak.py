"""`make soak`: interrupt a pipeline at random moments, repeat it, and compare the outcome with an unharmed one's."""

import os
import random
import shutil
import signal
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from real_repro import LOCK, all_runs, dvc, running_stage, send, start_repro

from cifar_resnet import layout
from pipeline.demo import RECIPE, overlay, prepare_project

SETTINGS = {  # beside the recipe's: most of the time is spent on training
    "model": {"width": 4},
    "train": {"epochs": 20, "lr_min": 0.01, "lr_max": 0.4},
    "compute": {"device": "cpu", "precision": "fp32", "threads": 1},
    "runtime": {"workers": 0, "checkpoint_steps": 7},
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CASES = [(sent, target) for target in ("stage", "dvc", "both") for sent in SIGNALS]


def main() -> None:
    """Interrupt as often as asked for, and print a table."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the moments; default: new")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)
    tries, survived = Counter[str](), Counter[str]()
    with TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        prepare_project(folder / "prepared", RECIPE)
        os.chdir(folder / "prepared")
        overlay(layout.PARAMS, SETTINGS, layout.PARAMS)
        dvc("repro", "lr_find")
        expected, duration_seconds = run_unharmed(folder)
        print(f"unharmed, the stages from train on take {duration_seconds:.0f} s", flush=True)
        for number in range(options.tries):
            sent, target = CASES[number % len(CASES)]
            case = f"{sent.name} to {target}"
            moment = chance.uniform(0, duration_seconds)
            stage, problem = run_interrupted(folder, moment, sent, target, expected)
            tries[case] += 1
            survived[case] += not problem
            print(f"{number + 1:3}  {case} after {moment:.1f} s, in {stage}: {problem or 'survived'}", flush=True)
    print(f"\n{'case':<18}{'tries':>6}{'survived':>10}")
    for case, count in tries.items():
        print(f"{case:<18}{count:>6}{survived[case]:>10}")
    print(f"{'all':<18}{tries.total():>6}{survived.total():>10}")
    sys.exit(survived != tries)


def run_unharmed(folder: Path) -> tuple[bytes, float]:
    """What `dvc.lock` should be in the end, and how many seconds that takes."""
    enter_copy(folder)
    started = time.monotonic()
    dvc("repro")
    return LOCK.read_bytes(), time.monotonic() - started


def run_interrupted(
    folder: Path, moment: float, sent: signal.Signals, target: str, expected: bytes
) -> tuple[str, str | None]:
    """Interrupt, repeat, and say which stage ran at that moment and what is wrong in the end."""
    enter_copy(folder)
    repro = start_repro(folder / "log")
    with suppress(psutil.TimeoutExpired):
        repro.wait(moment)
    stage = running_stage(repro)
    name = stage.cmdline()[-1] if stage else "no stage"
    send(sent, repro, target)
    repro.wait()
    psutil.wait_procs([stage] if stage else [])  # when only DVC was killed, it works on and keeps a second one away
    return name, repeat(expected)


def repeat(expected: bytes) -> str | None:
    """Finish what was interrupted, and say what is wrong then."""
    try:
        dvc("repro")
    except AssertionError as error:
        return str(error).splitlines()[-1]
    if LOCK.read_bytes() != expected:
        return "dvc.lock differs"
    statuses = [run.info.status for run in all_runs(Path.cwd())]
    return None if statuses == ["FINISHED"] else f"MLflow has runs {statuses}"


def enter_copy(folder: Path) -> None:
    """Make a fresh copy of the prepared project the working directory."""
    os.chdir(folder)
    shutil.rmtree("project", ignore_errors=True)
    shutil.copytree("prepared", "project", symlinks=True)
    os.chdir("project")


if __name__ == "__main__":
    main()
