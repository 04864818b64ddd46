"""What all commands do alike: in the wrong folder, and when nobody reads what they print."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import PROJECT

CHECK = [sys.executable, "-m", "pipeline.check"]


def test_output_that_nobody_reads_ends_a_command_in_silence(workspace: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(CHECK, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")  # 128 + SIGPIPE, as shells report it


def test_a_folder_that_is_not_the_projects_is_named(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(CHECK, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {tmp_path} is not this project's folder: change to the one with params.yaml first\n"
    )
