"""How every stage and command starts: settings in, one clear line out if the user can mend what is wrong."""

import inspect
import signal
import sys
from collections.abc import Callable
from types import FrameType

from cifar_resnet import layout
from cifar_resnet.errors import UserError
from cifar_resnet.params import load_params


def main(run: Callable[..., None]) -> None:
    """Call `run` with the sections of params.yaml that its signature names, and exit."""
    signal.signal(signal.SIGTERM, _exit_in_order)
    try:
        params = load_params(layout.PARAMS)
        run(**{name: getattr(params, name) for name in inspect.signature(run).parameters})
    except UserError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    except KeyboardInterrupt:
        sys.exit("interrupted: call `dvc repro` again to go on")


def _exit_in_order(signal_number: int, frame: FrameType | None) -> None:
    """Let `finally` blocks run before the process ends; 128 + the signal's number is what shells report."""
    sys.exit(128 + signal_number)
