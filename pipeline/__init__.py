"""The stages that `dvc.yaml` runs, and the commands beside them: `python -m pipeline.NAME`."""

import sys
from pathlib import Path

# The library is imported from beside this package, never from an installed copy, so that a queued or temporary
# DVC experiment, which runs in a checkout of its own, runs its own code.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
