"""How stages and commands start and end: settings in, results published, one line for what the user can mend."""

import errno
import gc
import inspect
import os
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
        params = load_params(layout.PARAMS)
        run(**{name: getattr(params, name) for name in inspect.signature(run).parameters})
        if stage in PUBLISHED and "RANK" not in os.environ:  # not from a process that torchrun started for a stage
            from cifar_resnet.tracking import publish_stage  # 2 s that the other stages and commands can do without

            publish_stage(stage, params)
    except UserError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    except OSError as error:
        if error.errno not in CLOSED_OR_FULL:
            raise
        sys.exit(f"error: {error.filename or 'a file'}: {error.strerror}; make room, or mend the permissions")
    except KeyboardInterrupt:
        sys.exit("interrupted: call it again to go on")


def _exit_in_order(signal_number: int, frame: FrameType | None) -> None:
    """Let `finally` blocks run before the process ends; 128 + the signal's number is what shells report."""
    sys.exit(128 + signal_number)
