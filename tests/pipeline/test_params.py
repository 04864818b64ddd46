"""params.yaml as the commands check it."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.utils.validation import _validate_experiment_name, _validate_model_name
from pydantic import ValidationError
from support.project import PROJECT
from support.settings import changed

from image_classifier.project.params import Params, RuntimeParams


@pytest.mark.parametrize("name", ["x" * 600, "a\nb", " a", "\x00", "\ud800", "..", "Köln 2/3", "a'b", "%s", "ü" * 400])
def test_mlflow_accepts_every_name_that_is_accepted_here(tmp_path: Path, name: str, params: Params) -> None:
    runtime = params.runtime.model_dump()
    for field, refuses in (("experiment", _validate_experiment_name), ("registered_model", _validate_model_name)):
        try:
            RuntimeParams.model_validate(runtime | {field: name})
        except ValidationError:
            continue
        refuses(name)
        name.encode()  # as a database does


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """`python -m pipeline.check`, run in `folder`."""
    environment = {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pipeline.check"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_projects_own_params_are_valid() -> None:
    result = check(PROJECT)
    assert result.returncode == 0  # stderr says what this machine lacks
    assert result.stdout.startswith("params.yaml is valid\n")


def test_the_check_of_bad_params_fails_with_one_line(tmp_path: Path) -> None:
    result = check(changed(tmp_path, train={"epochs": 0}).parent)
    error = "error: params.yaml: train.epochs is 0; allowed: a whole number from 1 to 10000\n"
    assert (result.stdout, result.stderr, result.returncode) == ("", error, 1)
