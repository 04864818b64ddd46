"""How stages and commands start and end: settings in, results published, one line for what the user can mend."""

import errno
import gc
import inspect
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from cifar_resnet import layout
from cifar_resnet.errors import UserError
from cifar_resnet.params import load_params

CLOSED_OR_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}
PUBLISHED = {"train", "evaluate", "gradcam_report"}  # stages whose results belong to an MLflow run


def main(run: Callable[..., None]) -> None:
    """Call `run` with the sections of params.yaml that its signature names, publish what it made, and exit."""
    gc.freeze()  # what was imported stays: looking for garbage among it, at the end once more, cost 1.1 CPU seconds
    signal.signal(signal.SIGTERM, _exit_in_order)
    stage = Path(inspect.getfile(run)).stem
    try:
        _require_project()
        params = load_params(layout.PARAMS)
        run(**{name: getattr(params, name) for name in inspect.signature(run).parameters})
        if stage in PUBLISHED:  # what follows takes 2 s that the other stages and commands can do without
            from cifar_resnet.distributed import is_worker
            from cifar_resnet.tracking import publish_stage

            if not is_worker():
                publish_stage(stage, params)
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
        sys.exit(f"error: {error.filename or 'a file'}: {error.strerror}; make room, or mend the permissions")
    except KeyboardInterrupt:
        sys.exit("interrupted: call it again to go on")


def _require_project() -> None:
    """Tell a wrong folder from a missing file.

    Raises:
        UserError: this is not the project's folder.
    """
    if not layout.PARAMS.exists() and not Path("dvc.yaml").exists():
        raise UserError(f"{Path.cwd()} is not this project's folder: change to the one with {layout.PARAMS} first")


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
