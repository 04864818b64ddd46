"""The independent check finds what is false in MLflow's runs, whoever made it so."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import records_check
from support.finished_pipeline import commit
from support.real_repro import all_runs, dvc

from image_classifier.project import locations
from image_classifier.project.recipes import overlay


def check(capsys: pytest.CaptureFixture[str], store: str = "mlruns/mlflow.db") -> str:
    """What the check of the project here prints."""
    capsys.readouterr()
    records_check.main(Path.cwd(), f"sqlite:///{Path.cwd()}/{store}")
    return capsys.readouterr().out


def execute(database: str, statement: str) -> None:
    """Change a copy of MLflow's database."""
    shutil.copy("mlruns/mlflow.db", database)
    with closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute(statement).rowcount > 0


@pytest.mark.usefixtures("finished")
def test_two_states_with_the_same_weights_are_true_before_and_after_they_are_committed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check(capsys) == "runs: 1 true, 0 unknown, 0 false\n"
    overlay(locations.PARAMS, {"evaluate": {"calibration_bins": 7}}, locations.PARAMS)
    dvc("repro", "evaluate")
    assert check(capsys) == "runs: 2 true, 0 unknown, 0 false\n"
    shutil.rmtree(".dvc/cache/runs")  # Git's history is enough
    commit(Path.cwd(), "Fewer bins")
    assert check(capsys) == "runs: 2 true, 0 unknown, 0 false\n"


FALSE = {
    "train.epochs is 3, DVC recorded 2": "UPDATE params SET value = '3' WHERE key = 'train.epochs'",
    "lr_find.rule is slide, DVC recorded": "UPDATE params SET value = 'slide' WHERE key = 'lr_find.rule'",
    "data.test_share is 0.4, DVC recorded 0.2": "UPDATE params SET value = '0.4' WHERE key = 'data.test_share'",
    "gradcam.images is 5, DVC recorded 6": "UPDATE params SET value = '5' WHERE key = 'gradcam.images'",
    "models/model.pt has the MD5 0123": "UPDATE tags SET value = '0123' WHERE key = 'mlflow.pipeline.model'",
    "evaluate/accuracy is 0.5 at step 0": "UPDATE metrics SET value = 0.5 WHERE key = 'evaluate/accuracy'",
    "evaluate/per_class/ is 0.123 at step 0": "UPDATE metrics SET value = 0.123 WHERE key = 'evaluate/per_class/3'",
    "epoch/train_loss is 0.5 at step 1": "UPDATE metrics SET value = 0.5 WHERE key = 'epoch/train_loss' AND step = 1",
    "lr_max is 0.5 at step 0, its reports say": "UPDATE metrics SET value = 0.5 WHERE key = 'lr_max'",
    "data/digits has the MD5 0123.dir, DVC recorded": "UPDATE datasets SET digest = '0123'",
}


@pytest.mark.usefixtures("finished")
def test_each_thing_that_a_run_says_otherwise_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = all_runs(Path.cwd())
    for number, (said, statement) in enumerate(FALSE.items()):
        execute(f"{number}.db", statement)
        printed = check(capsys, f"{number}.db")
        assert f"false: run {run.info.run_name} ({run.info.run_id}): {said}" in printed
        assert printed.endswith("runs: 0 true, 0 unknown, 1 false\n")
    command = [sys.executable, records_check.__file__, ".", f"sqlite:///{Path.cwd()}/0.db"]
    assert subprocess.run(command, check=False).returncode == 1


@pytest.mark.usefixtures("finished")
def test_a_run_whose_weights_or_reports_no_record_has_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    (table,) = Path("mlruns/artifacts").rglob("confused_pairs.csv")
    table.write_text("edited")
    printed = check(capsys)
    assert "no record has its reports/evaluate/confused_pairs.csv" in printed
    assert printed.endswith("runs: 0 true, 1 unknown, 0 false\n")
    for folder in (".git", ".dvc/cache/runs"):
        shutil.rmtree(folder)
    Path("dvc.lock").unlink()
    printed = check(capsys)
    assert "no record has its models/model.pt" in printed
    assert printed.endswith("runs: 0 true, 1 unknown, 0 false\n")
