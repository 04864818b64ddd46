"""What all commands have in common, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.finished_pipeline import run
from support.project import PROJECT

from image_classifier.project import locations
from image_classifier.project.recipes import overlay

CHECK = [sys.executable, "-m", "pipeline.check"]


def test_output_that_nobody_reads_ends_a_command_in_silence(workspace: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*CHECK, "--write-schema"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")  # 128 + SIGPIPE, as shells report it


def test_letters_that_the_output_cannot_show_are_escaped(tiny_params_file: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", "from pipeline.stage import main; main(lambda: print('é'))"]
    done = subprocess.run(command, cwd=tiny_params_file.parent, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\\xe9\n", "")


def test_a_folder_that_is_not_the_projects_is_named(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(CHECK, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {tmp_path} is not this project's folder: change to the one with params.yaml first\n"
    )


@pytest.mark.parametrize(("name", "count"), [("search", "0"), ("seeds", "0"), ("seeds", "many")])
def test_a_group_has_one_member_or_more(name: str, count: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"pipeline.{name}", count, "train.seed=0..9"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: argument N: {count}; allowed: 1 or more\n")


def test_dvc_deletes_outputs_before_a_value_is_refused_and_checkout_restores_them(workspace: Path) -> None:
    """DVC deletes a stage's outputs before it starts the stage, so before the stage can refuse a value."""
    run("dvc", "repro", "download", cwd=workspace)
    made = sorted(path.name for path in Path("data/digits").iterdir())
    overlay(locations.PARAMS, {"data": {"split_seed": -1}}, locations.PARAMS)
    done = subprocess.run([sys.executable, "-m", "dvc", "repro", "download"], capture_output=True, text=True)
    assert "error: params.yaml: data.split_seed is -1; allowed: " in done.stderr
    assert not Path("data/digits").exists()
    run("dvc", "checkout", "download", cwd=workspace)
    assert sorted(path.name for path in Path("data/digits").iterdir()) == made


def test_windows_without_wsl_is_refused_in_one_line(workspace: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.platform = 'win32'; import pipeline.check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: this project runs on Linux and macOS; on Windows, use it in WSL 2")
