"""How stages and commands start and end: read the settings, publish results, show the user's errors in one line."""

import errno
import gc
import inspect
import os
import select
import signal
import sqlite3
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from image_classifier.project import locations
from image_classifier.project.definition import DEFINITION, Project, Stage, read_project
from image_classifier.project.doctor import require_lasting_results
from image_classifier.project.records import remove_false_records, require_as_imported, require_unchanged, write_inputs
from image_classifier.project.store_location import follow_move
from image_classifier.system.errors import UserError
from pipeline import IMPORTED

JOBS = "train N at a time, each with its share of the cores and a GPU of its own (default: 1)"
CLOSED_OR_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def main(run: Callable[..., None], description: str | None = None) -> None:
    """Call `run` with the arguments that its signature names, and exit.

    They can be sections of params.yaml; `project`, which holds all of params.yaml and dvc.yaml; and for a stage
    `inputs`, what the stage depends on. Both files are read once, here. `description` is the help text of a command
    without arguments.
    """
    if description:
        ArgumentParser(f"python -m pipeline.{Path(inspect.getfile(run)).stem}", description=description).parse_args()
    gc.freeze()  # imported objects are no garbage; searching them, also once at the end, cost 1.1 CPU seconds
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have letters that ASCII lacks
    # Let `finally` blocks run before the process ends; shells report 128 + the signal's number.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        if not locations.PARAMS.exists() and not DEFINITION.exists():
            here = Path.cwd()
            raise UserError(f"{here} is not this project's folder: change to the one with {locations.PARAMS} first")
        with suppress(UserError, sqlite3.Error):  # code that needs the store reports the error itself
            if former := follow_move():  # the whole project was moved
                print(
                    f"the project was moved or copied: its MLflow store no longer points into {former}", file=sys.stderr
                )
        if inspect.signature(run).parameters:
            project = read_project()
            if stage := project.stages.get(Path(inspect.getfile(run)).stem):
                run_stage(stage, run, project)
            else:
                call(run, project=project, **vars(project.params))
        else:
            run()
        sys.stdout.flush()
    except UserError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    except BrokenPipeError:
        if not _has_closed_output():
            raise
        sys.exit(128 + signal.SIGPIPE)  # what shells report for a program whose reader, such as `head`, has ended
    except OSError as error:
        if error.errno not in CLOSED_OR_FULL:
            raise
        sys.exit(f"error: {error.filename or 'a file'}: {error.strerror}; make room, or correct the permissions")
    except KeyboardInterrupt:
        sys.exit("interrupted: start it again to continue")


def call(run: Callable[..., None], **available: Any) -> None:
    """Call a function with the arguments that its signature names."""
    run(**{name: available[name] for name in inspect.signature(run).parameters})


def run_stage(stage: Stage, run: Callable[..., None], project: Project) -> None:
    """Run a stage and publish its results, if nothing that it depends on changes meanwhile."""
    require_lasting_results(project)
    inputs = project.inputs(stage.name)
    require_as_imported(inputs, IMPORTED)
    if removed := remove_false_records():  # this stage would use the false results
        raise UserError("\n".join(f"{line}: run `dvc repro` again" for line in removed))
    call(run, project=project, inputs=inputs, **vars(project.params))
    require_unchanged(stage.name, inputs)
    require_as_imported(inputs, IMPORTED)  # some modules are imported when they are used
    is_alone = "TORCHELASTIC_RUN_ID" not in os.environ  # clusters set RANK for any process
    if is_alone or os.environ["RANK"] == "0":  # of several training processes, the first writes
        write_inputs(stage, inputs)
    if stage.published and locations.MODEL.exists():  # importing MLflow takes 2 s, and the other stages do not need it
        from image_classifier.model.distributed import is_worker
        from image_classifier.tracking.publication import publish_stage

        if not is_worker():
            publish_stage(stage.name, project, inputs)
            require_unchanged(stage.name, inputs)


def _has_closed_output() -> bool:
    """Whether nobody reads stdout or stderr any more. If so, discard what Python writes there when it ends."""
    states = select.poll()
    for output in (sys.stdout, sys.stderr):
        states.register(output, 0)  # 0: report only errors and closed readers
    closed = [descriptor for descriptor, _ in states.poll(0)]
    for descriptor in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return bool(closed)


def one_or_more(text: str) -> int:
    """The number of members of a group; argparse shows the errors."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text}; allowed: 1 or more")
    return int(text)
