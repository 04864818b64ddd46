"""`python -m benchmarks`: what the pipeline costs on this machine, and how that compares."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))  # as in `pipeline`
