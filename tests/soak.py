"""`make soak`: harm a pipeline at random moments, repair it, and compare it with an unharmed one.

It is killed; settings, code and labels are edited while it runs; single stages run after edits, in every way that DVC
and this project have; and files get times of the future. In the end MLflow's runs are checked against DVC's records, by
`records_check.py`, which shares no code with the project.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run
from support.finished_pipeline import run
from support.real_repro import LOCK, all_runs, dvc, running_stage, send, start_repro

from image_classifier.outputs.history import read_history
from image_classifier.project import locations
from image_classifier.project.definition import read_lock
from image_classifier.project.hashing import path_md5
from image_classifier.project.keys import training_key
from image_classifier.project.recipes import overlay
from image_classifier.tracking.runs import TRAINING
from pipeline.demo import RECIPE, prepare_project

SETTINGS: dict[str, dict[str, object]] = {  # added to the recipe's, so that training takes most of the time
    "model": {"width": 4},
    "train": {"epochs": 20, "lr_min": 0.01, "lr_max": 0.4},
    "compute": {"device": "cpu", "precision": "fp32", "threads": 1},
    "runtime": {"workers": 0, "checkpoint_steps": 7},
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LINKS = ("copy", "symlink", "hardlink")
CHECK = Path(__file__).resolve().with_name("records_check.py")
CODE = Path("src/image_classifier/training/loop.py")
LABELS = Path("data/digits/train_labels.npy")
EDITS: dict[str, Callable[[], object]] = {
    "train.epochs": lambda: overlay(locations.PARAMS, {"train": {"epochs": 15}}, locations.PARAMS),
    "a comment in training/loop.py": lambda: CODE.write_text(f"{CODE.read_text()}\n# edited\n"),
    "labels": lambda: write_in_place(bytes(LABELS.stat().st_size // 2)),
    "labels, put back": lambda: change_and_put_back(),
}
OTHER_SETTINGS: list[dict[str, dict[str, object]]] = [  # each makes another stage outdated
    {"data": {"test_share": 0.3}},
    {"lr_find": {"rule": "valley", "seed": 4}},
    {"train": {"epochs": 15}, "augment": {"cutout": 2}},
    {"evaluate": {"grid_images": 9}, "gradcam": {"layer": "layer3"}},
]
PYTHON = (sys.executable, "-m")
SINGLE_STAGES: dict[str, tuple[str, ...]] = {
    "repro --single-item train": (*PYTHON, "dvc", "repro", "--single-item", "train"),
    "repro --force --single-item evaluate": (*PYTHON, "dvc", "repro", "--force", "--single-item", "evaluate"),
    "repro --downstream evaluate": (*PYTHON, "dvc", "repro", "--downstream", "evaluate"),
    "repro --pull": (*PYTHON, "dvc", "repro", "--pull", "--allow-missing"),
    "exp run --single-item train": (*PYTHON, "dvc", "exp", "run", "--single-item", "train"),
    "commit --force": (*PYTHON, "dvc", "commit", "--force"),
    "python -m pipeline.evaluate": (*PYTHON, "pipeline.evaluate"),
}
CASES = [(sent, target) for target in ("stage", "dvc", "both") for sent in SIGNALS]


def main() -> None:
    """Interrupt and edit as often as asked for, and print a table."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=20, help="of each kind of harm")
    parser.add_argument(
        "--seed", type=int, default=time.time_ns() % 1_000_000, help="seed of the moments; default: new"
    )
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)
    tries, survived = Counter[str](), Counter[str]()
    with TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        prepare_project(folder / "prepared", RECIPE)
        os.chdir(folder / "prepared")
        overlay(locations.PARAMS, SETTINGS, locations.PARAMS)
        dvc("repro", "lr_find")
        expected, duration_seconds = run_unharmed(folder)
        print(f"unharmed, the stages from train on take {duration_seconds:.0f} s", flush=True)
        for number in range(options.tries):
            moment, link, killed = chance.uniform(0, duration_seconds), chance.choice(LINKS), chance.random() < 0.3
            sent, target = CASES[number % len(CASES)]
            edit, command = (list(table)[number % len(table)] for table in (EDITS, SINGLE_STAGES))
            settings = chance.choice(OTHER_SETTINGS)
            harms: dict[str, Callable[[], tuple[str, str | None]]] = {
                "kill": partial(run_interrupted, folder, moment, sent, target, expected),
                f"edit: {edit}": partial(run_edited, folder, moment, edit, link, killed, expected),
                f"alone: {command}": partial(run_alone, folder, SINGLE_STAGES[command], settings, expected),
                "times of the future": partial(run_early, folder, chance.uniform(1, 1e6), expected),
            }
            for case, harm in harms.items():
                where, problem = harm()
                tries[case] += 1
                survived[case] += not problem
                print(f"{number + 1:3}  {case}, {where}: {problem or 'survived'}", flush=True)
    print(f"\n{'case':<45}{'tries':>6}{'survived':>10}")
    for case, count in tries.items():
        print(f"{case:<45}{count:>6}{survived[case]:>10}")
    print(f"{'all':<45}{tries.total():>6}{survived.total():>10}")
    sys.exit(survived != tries)


def run_unharmed(folder: Path) -> tuple[bytes, float]:
    """The `dvc.lock` of an uninterrupted pipeline, and the seconds that it takes; its folder is kept as `finished`."""
    enter_copy(folder)
    started = time.monotonic()
    dvc("repro")
    duration_seconds = time.monotonic() - started
    shutil.copytree(".", folder / "finished", symlinks=True)
    return LOCK.read_bytes(), duration_seconds


def run_alone(
    folder: Path, command: tuple[str, ...], settings: dict[str, dict[str, object]], expected: bytes
) -> tuple[str, str | None]:
    """Run single stages of a finished pipeline under other settings, and say what is false then, and in the end."""
    enter_copy(folder, "finished")
    before = locations.PARAMS.read_bytes()
    overlay(locations.PARAMS, settings, locations.PARAMS)
    for words in (command, (*PYTHON, "pipeline.sync"), (*PYTHON, "dvc", "repro"), (*PYTHON, "pipeline.sync")):
        subprocess.run(words, capture_output=True, check=False)  # it may fail, and must say nothing false
        if problem := false_run():
            return str(settings), problem
    locations.PARAMS.write_bytes(before)
    return str(settings), finish(expected) or false_run() or damaged_object()


def run_early(folder: Path, ahead_seconds: float, expected: bytes) -> tuple[str, str | None]:
    """Run with files whose times lie in the future, as if the clock were behind."""
    enter_copy(folder)
    for path in Path().rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (path.stat().st_atime, time.time() + ahead_seconds))
    return f"{ahead_seconds:.0f} s", repeat(expected)


def write_in_place(content: bytes) -> None:
    """Write over the start of the labels' file."""
    with LABELS.open("r+b") as file:
        file.seek(128)  # after the header
        file.write(content[: LABELS.stat().st_size - 128])


def change_and_put_back() -> None:
    """Let the labels be wrong for a moment."""
    content = LABELS.read_bytes()
    write_in_place(bytes(len(content)))
    time.sleep(0.5)
    write_in_place(content[128:])


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
    psutil.wait_procs([stage] if stage else [])  # if only DVC was killed, the stage runs on and refuses a second one
    return name, repeat(expected)


def run_edited(
    folder: Path, moment: float, edit: str, link: str, killed: bool, expected: bytes
) -> tuple[str, str | None]:
    """Edit while a stage runs, perhaps kill it, undo the edit, and say what is wrong at each point."""
    enter_copy(folder)
    dvc("config", "cache.type", link)
    repro = start_repro(folder / "log")
    with suppress(psutil.TimeoutExpired):
        repro.wait(moment)
    stage = running_stage(repro)
    name = f"{stage.cmdline()[-1] if stage else 'no stage'} ({link}{', killed' if killed else ''})"
    before = {file: file.read_bytes() for file in (locations.PARAMS, CODE, LABELS)}
    EDITS[edit]()
    if killed:
        send(signal.SIGKILL, repro, "both")
    repro.wait()
    psutil.wait_procs([stage] if stage else [])
    with suppress(AssertionError):  # `sync` may have removed a record, and says so
        run(sys.executable, "-m", "pipeline.sync", cwd=Path.cwd())
    if problem := false_record():
        return name, problem
    for file, content in before.items():
        file.write_bytes(content)
    problem = repeat(expected)
    return name, problem or false_record() or damaged_object()


def false_record() -> str | None:
    """A training that DVC or MLflow shows with another number of epochs than it had."""
    record = read_lock().get("train")
    history = record and record.outs[locations.HISTORY.as_posix()]
    if record and locations.HISTORY.exists() and path_md5(locations.HISTORY) == history:
        epochs = record.inputs.settings["train.epochs"]
        if len(read_history(locations.HISTORY)) != epochs:
            return f"dvc.lock says {epochs} epochs, there were {len(read_history(locations.HISTORY))}"
    for found in all_runs(Path.cwd()):
        if found.info.status == "FINISHED" and int(found.data.params["train.epochs"]) != num_epochs(found):
            return f"MLflow run {found.info.run_name} had {num_epochs(found)} epochs"
    return None


def num_epochs(found: Run) -> int:
    """The epochs that an MLflow run shows."""
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    return len(client.get_metric_history(found.info.run_id, "epoch/train_loss"))


def damaged_object() -> str | None:
    """A file in DVC's cache whose content is not what its name says."""
    for path in Path(".dvc/cache/files/md5").rglob("*"):
        if path.is_file() and path.suffix != ".dir" and path_md5(path) != f"{path.parent.name}{path.name}":
            return f"{path} was overwritten"
    return None


def finish(expected: bytes) -> str | None:
    """Run what has to run, and say what is wrong with DVC's record then."""
    try:
        dvc("repro")
    except AssertionError as error:
        return str(error).splitlines()[-1]
    return None if LOCK.read_bytes() == expected else "dvc.lock differs"


def repeat(expected: bytes) -> str | None:
    """Finish what was interrupted, and say what is wrong then, also in MLflow."""
    if problem := finish(expected):
        return problem
    statuses = Counter(found.info.status for found in all_runs(Path.cwd()) if is_expected(found))
    return false_run() if statuses == {"FINISHED": 1} else f"MLflow has runs {dict(statuses)}"


def false_run() -> str | None:
    """What the independent check finds to be false in MLflow's runs."""
    done = subprocess.run([sys.executable, CHECK], capture_output=True, text=True, check=False)
    return "; ".join(done.stdout.splitlines() or [done.stderr]) if done.returncode else None


def is_expected(found: Run) -> bool:
    """Whether a run has the settings and code of the unharmed pipeline."""
    has_settings = found.data.params["train.epochs"] == str(SETTINGS["train"]["epochs"])
    return has_settings and found.data.tags[TRAINING] == training_key(read_lock()["train"].inputs)


def enter_copy(folder: Path, original: str = "prepared") -> None:
    """Make a fresh copy of the prepared or finished project the working directory."""
    os.chdir(folder)
    shutil.rmtree("project", ignore_errors=True)
    shutil.copytree(original, "project", symlinks=True)
    os.chdir("project")


if __name__ == "__main__":
    main()
