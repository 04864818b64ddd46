"""The stages that `dvc.yaml` runs, and the commands beside them: `python -m pipeline.NAME`."""

import os
import sys
import time
from pathlib import Path
from types import TracebackType

STARTED_NS = time.time_ns()  # taken before the other imports: code changed after this moment is not the code that runs

# The library is imported from beside this package, never from an installed copy. So a queued or temporary DVC
# experiment, which runs in its own checkout, uses its own code.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

if sys.platform == "win32":
    sys.exit("error: this project runs on Linux and macOS; on Windows, use it in WSL 2")


def _explain_missing_module(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in one line where a missing module should come from; show other errors as Python does."""
    name = getattr(error, "name", None) if kind is ModuleNotFoundError else None
    if not name:
        sys.__excepthook__(kind, error, trace)
    elif name.split(".")[0] not in ("pipeline", "cifar_resnet"):
        print(f"error: no package {name} for {sys.executable}: `source .venv/bin/activate` if this is another Python, "
              "else `pip install -r requirements.txt`, or what your own code needs", file=sys.stderr)  # fmt: skip
    elif os.environ.get("DVC_ROOT", "") not in ("", str(Path.cwd())):
        print(f"error: no module {name} in this experiment's copy of the project: `git add` its file, then start the "
              "experiment again", file=sys.stderr)  # fmt: skip
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _explain_missing_module
