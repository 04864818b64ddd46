"""The stages that `dvc.yaml` runs, and the commands beside them: `python -m pipeline.NAME`."""

import sys
import time
from pathlib import Path

STARTED_NS = time.time_ns()  # before any other module is imported: code that is changed later is not what runs

# The library is imported from beside this package, never from an installed copy, so that a queued or temporary
# DVC experiment, which runs in a checkout of its own, runs its own code.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
