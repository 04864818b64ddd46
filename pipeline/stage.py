"""How stages and commands start and end: settings in, results published, one line for what the user can correct."""

import errno
import gc
import inspect
import os
import select
import signal
import sqlite3
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from cifar_resnet import layout
from cifar_resnet.dvc_files import Stage
from cifar_resnet.errors import UserError
from cifar_resnet.project import Project, read_project
from cifar_resnet.records import require_older, require_true_records, require_unchanged, write_receipt
from cifar_resnet.store_location import follow_move
from cifar_resnet.surroundings import require_lasting_results
from pipeline import STARTED_NS

CLOSED_OR_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}


def main(run: Callable[..., None], description: str | None = None) -> None:
    """Call `run` with what its signature names, and exit. A `description` is the help of a command without arguments.

    These are sections of params.yaml; `project`, all that params.yaml and dvc.yaml say; and for a stage `inputs`,
    what it depends on. Both files are read once, here.
    """
    if description:
        ArgumentParser(f"python -m pipeline.{Path(inspect.getfile(run)).stem}", description=description).parse_args()
    gc.freeze()  # what was imported stays: looking for garbage among it, at the end once more, cost 1.1 CPU seconds
    signal.signal(signal.SIGTERM, _exit_in_order)
    try:
        _require_project()
        _follow_move()
        names = inspect.signature(run).parameters
        if names:
            project = read_project()
            available = {**vars(project.params), "project": project}
            if stage := project.stages.get(Path(inspect.getfile(run)).stem):
                run_stage(stage, run, project, available)
            else:
                run(**{name: available[name] for name in names})
        else:
            run()
        sys.stdout.flush()
    except UserError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    except BrokenPipeError:
        if not _has_closed_output():
            raise
        sys.exit(128 + signal.SIGPIPE)  # as shells report a program that writes to `head` after it has ended
    except OSError as error:
        if error.errno not in CLOSED_OR_FULL:
            raise
        sys.exit(f"error: {error.filename or 'a file'}: {error.strerror}; make room, or correct the permissions")
    except KeyboardInterrupt:
        sys.exit("interrupted: start it again to continue")


def run_stage(stage: Stage, run: Callable[..., None], project: Project, available: dict[str, Any]) -> None:
    """Run a stage and publish its results, if nothing that it depends on changes meanwhile.

    Raises:
        UserError: something changed, or the stage failed.
    """
    require_lasting_results(project)
    inputs = project.inputs(stage.name)
    require_older(inputs, STARTED_NS)
    require_true_records()
    available["inputs"] = inputs
    run(**{name: available[name] for name in inspect.signature(run).parameters})
    require_unchanged(stage.name, inputs)
    if stage.published and layout.MODEL.exists():  # importing MLflow takes 2 s, and the other stages do not need it
        from cifar_resnet.distributed import is_worker
        from cifar_resnet.tracking.publication import publish_stage

        if is_worker():
            return
        publish_stage(stage.name, project)
        require_unchanged(stage.name, inputs)
    write_receipt(stage, inputs)


def _require_project() -> None:
    """Tell a wrong folder from a missing file.

    Raises:
        UserError: this is not the project's folder.
    """
    if not layout.PARAMS.exists() and not Path("dvc.yaml").exists():
        raise UserError(f"{Path.cwd()} is not this project's folder: change to the one with {layout.PARAMS} first")


def _follow_move() -> None:
    """Point a store that was copied or moved with the project to its own files, before anything uses them."""
    with suppress(UserError, sqlite3.Error):  # what needs the store reports that in its own words
        if former := follow_move():
            print(f"the project was moved or copied: its MLflow store no longer points into {former}", file=sys.stderr)


def _has_closed_output() -> bool:
    """Whether nobody reads stdout or stderr any more; what Python yet writes to it at its end then goes nowhere."""
    states = select.poll()
    for output in (sys.stdout, sys.stderr):
        states.register(output, 0)  # asks for nothing, and hears of errors and ends only
    closed = [descriptor for descriptor, _ in states.poll(0)]
    for descriptor in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return bool(closed)


def _exit_in_order(signal_number: int, frame: FrameType | None) -> None:
    """Let `finally` blocks run before the process ends; 128 + the signal's number is what shells report."""
    sys.exit(128 + signal_number)
