"""Edits while stages run, and linked caches: `dvc.lock`, DVC's cache and MLflow stay correct. With real DVC."""

import os
import py_compile
import re
import shutil
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from support.files import full_disk
from support.finished_pipeline import run, run_stages
from support.pictures import pictures
from support.real_repro import LOCK, all_runs, dvc, executed, start_repro, wait_for
from support.settings import change

from image_classifier.outputs.history import read_history
from image_classifier.project import locations
from image_classifier.project.definition import Inputs, read_lock, read_project
from image_classifier.project.hashing import file_md5, path_md5
from image_classifier.project.params import load_params
from image_classifier.project.records import (
    remove_false_records,
    require_as_imported,
    require_unchanged,
    stages_of_other_code,
    write_inputs,
)
from image_classifier.system.errors import UserError
from image_classifier.system.files import write_text
from image_classifier.tracking.false_runs import CHECKED
from image_classifier.tracking.provenance import WORKSPACE, workspace_id
from image_classifier.tracking.runs import MODEL, STATE, TRAINING
from pipeline import check


def test_settings_edited_while_a_training_runs_are_not_recorded_for_it(finished: Path) -> None:
    before = {found.info.run_id for found in all_runs(finished)}
    shutil.rmtree("checkpoints")  # the finished training's
    change(train={"epochs": 4}, runtime={"checkpoint_steps": 1})
    log = finished.with_name("log")
    repro = start_repro(log)
    wait_for(lambda: list(finished.glob("checkpoints/*/state.pt")))
    change(train={"epochs": 3})
    assert repro.wait() != 0
    assert "error: changed while train ran: train.epochs 4, params.yaml has 3" in log.read_text()
    assert read_lock()["train"].inputs.settings["train.epochs"] == 2
    (followed,) = (found for found in all_runs(finished) if found.info.run_id not in before)
    assert STATE not in followed.data.tags

    change(train={"epochs": 4})
    assert "continuing from the checkpoint after 4 epochs and 0 steps" in dvc("repro", "train")
    assert len(read_history(locations.HISTORY)) == 4
    change(train={"epochs": 3})
    assert executed(dvc("repro", "train")) == ["train"]
    assert len(read_history(locations.HISTORY)) == read_lock()["train"].inputs.settings["train.epochs"] == 3


def test_no_stage_writes_into_a_linked_cache(finished: Path) -> None:
    cached = sorted(path for path in Path(".dvc/cache/files/md5").rglob("*") if path.is_file())
    before = {path: path_md5(path) for path in cached}
    for seed, link in enumerate(["symlink", "hardlink"], start=1):
        run("dvc", "config", "cache.type", link, cwd=finished)
        run("dvc", "checkout", "--relink", cwd=finished)
        assert locations.MODEL.is_symlink() or locations.MODEL.stat().st_nlink == 2
        change(data={"split_seed": seed}, train={"seed": seed})
        run_stages(load_params(locations.PARAMS))
        assert {path: path_md5(path) for path in cached} == before
        run("dvc", "checkout", "--force", cwd=finished)


def test_a_record_made_from_an_edit_after_the_end_of_a_stage_is_removed_with_its_cached_copy(workspace: Path) -> None:
    dvc("repro", "download")
    change(data={"split_seed": 7})
    LOCK.write_bytes(LOCK.read_bytes().replace(b"data.split_seed: 0", b"data.split_seed: 7"))
    (removed,) = remove_false_records()
    assert "download" in removed
    assert "data.split_seed 0, dvc.lock has 7" in removed
    assert "download" not in read_lock()
    assert remove_false_records() == []


def test_a_stage_whose_record_was_removed_runs_again_with_the_same_inputs(workspace: Path) -> None:
    dvc("repro", "download")
    stage, inputs = read_project().stages["download"], read_project().inputs("download")
    write_inputs(stage, Inputs(inputs.settings, {**inputs.files, "pipeline/download.py": "before an edit"}))
    recorded = read_lock()["download"].outs["reports/inputs/download.json"]
    written = path_md5(Path("reports/inputs/download.json"))
    for file in (LOCK, *Path(".dvc/cache/runs").glob("*/*/*")):  # as if DVC had hashed the module after an edit
        file.write_text(file.read_text().replace(recorded, written))
    assert len(remove_false_records()) == 1
    assert executed(dvc("repro", "download")) == ["download"]


def test_a_true_record_stays(workspace: Path) -> None:
    dvc("repro", "download")
    assert remove_false_records() == []
    assert "download" in read_lock()


def test_make_check_names_the_stages_that_other_code_has_run(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stages_of_other_code(read_project()) == []
    settings = locations.PARAMS.read_bytes()
    change(data={"dataset": "cifar10"})  # a setting chooses another file: that is no other code
    assert stages_of_other_code(read_project()) == []
    style = Path("src/image_classifier/plots/style.py")
    style.write_text(f"{style.read_text()}\n# edited\n")
    assert stages_of_other_code(read_project()) == ["evaluate", "gradcam_report"]
    locations.PARAMS.write_bytes(settings)
    check.run(read_project())
    assert "dvc.lock was made by other code: evaluate, gradcam_report; `dvc repro` runs" in capsys.readouterr().out


def test_what_dvc_commit_claims_is_not_believed(finished: Path) -> None:
    before = len(all_runs(finished))
    change(train={"epochs": 3})
    dvc("commit", "--force", "train")
    assert read_lock()["train"].inputs.settings["train.epochs"] == 3
    printed = run("python", "-m", "pipeline.sync", cwd=finished)
    assert "removed from dvc.lock: train, recorded with a change that it did not run with" in printed
    assert "(train.epochs 2, dvc.lock has 3)" in printed
    assert len(all_runs(finished)) == before
    assert executed(dvc("repro"))[0] == "train"


OLD_RULE = {"lr_find": {"rule": "valley", "seed": 4}, "train": {"lr_max": 0.2}}
OLD_DATA = {"data": {"test_share": 0.4}, "evaluate": {"grid_images": 9}}


@pytest.mark.parametrize(
    ("options", "changes", "reason"),
    [
        (["--force", "--single-item", "train"], OLD_RULE, "lr_find ran with lr_find.rule descent_end"),
        (["--downstream", "evaluate"], OLD_DATA, "download ran with data.test_share 0.2, params.yaml has 0.4"),
    ],
)
def test_a_stage_run_without_those_before_it_publishes_nothing_and_says_why(
    finished: Path, options: list[str], changes: dict[str, dict[str, object]], reason: str
) -> None:
    before = {found.info.run_id for found in all_runs(finished)}
    change(**changes)
    printed = dvc("repro", *options)
    assert f"not published: {reason}" in printed or f"does not follow this training: {reason}" in printed
    assert {found.info.run_id for found in all_runs(finished)} == before


def test_sync_removes_a_run_whose_settings_did_not_make_its_results_and_says_so(finished: Path) -> None:
    (true,) = all_runs(finished)
    client = MlflowClient(f"sqlite:///{finished}/mlruns/mlflow.db")
    tags = {name: true.data.tags[name] for name in (MODEL, TRAINING)}
    tags |= {STATE: "of other settings", WORKSPACE: workspace_id()}
    false = client.create_run(true.info.experiment_id, run_name="false", tags=tags)
    for name, value in {**true.data.params, "lr_find.rule": "steepest"}.items():
        client.log_param(false.info.run_id, name, value)
    client.delete_tag(true.info.run_id, CHECKED)
    change(evaluate={"grid_images": 5})  # the next stages wait for `dvc repro`
    printed = run("python", "-m", "pipeline.sync", cwd=finished)
    assert "removed false, which says lr_find.rule steepest instead of descent_end for its results" in printed
    assert [found.info.run_id for found in all_runs(finished)] == [true.info.run_id]
    change(evaluate={"grid_images": 4})
    assert "nothing to do" in run("python", "-m", "pipeline.sync", cwd=finished)


def test_the_inputs_on_disk_are_those_that_dvc_records(finished: Path) -> None:
    for stage, record in read_lock().items():
        assert record.inputs.difference(read_project().inputs(stage)) is None


@pytest.mark.parametrize("folder", ["images", "../images", "./images/", "Photos: 2026"])
def test_files_that_systems_leave_among_pictures_make_no_record_false(workspace: Path, folder: str) -> None:
    change(data={"dataset": "folder", "folder": folder})
    pictures(Path(folder))
    for name in (".DS_Store", "red/.DS_Store", "red/._0.png", "red/Thumbs.db", ".git/config", ".hidden/0.png"):
        (Path(folder) / name).parent.mkdir(exist_ok=True)
        (Path(folder) / name).write_text("x")
    (Path(folder) / "red" / "link.png").symlink_to("0.png")
    dvc("repro", "download")
    assert read_lock()["download"].inputs.difference(read_project().inputs("download")) is None


def test_code_that_is_not_what_the_process_imported_is_refused_whatever_its_time(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("rate = 0.1")
    imported = {str(module): file_md5(module)}
    os.utime(module, ns=(0, 2**62))  # a clock that was far ahead
    inputs = Inputs({}, {}, code={str(module): file_md5(module)})
    require_as_imported(inputs, imported)
    before = module.stat()
    module.write_text("rate = 0.2")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match=r"module\.py was changed while this process started: start it again"):
        require_as_imported(Inputs({}, {}, code={str(module): file_md5(module)}), imported)


def test_stages_run_what_the_source_says_even_if_bytecode_of_the_same_time_says_otherwise(workspace: Path) -> None:
    module = Path("pipeline/constant.py")
    program = ["python", "-c", "from pipeline import IMPORTED, constant; print(constant.RATE, IMPORTED)"]
    module.write_text("RATE = 1")
    os.utime(module, (1, 1))
    py_compile.compile(str(module))
    module.write_text("RATE = 2")
    os.utime(module, (1, 1))
    printed = run(*program, cwd=workspace)
    assert printed.startswith("2 ")
    assert file_md5(module) in printed


LABELS = Path("data/digits/train_labels.npy")


def write_in_place(content: bytes) -> None:
    with LABELS.open("r+b") as file:
        file.write(content)


def test_labels_changed_while_a_training_reads_them_are_not_learnt(finished: Path) -> None:
    change(train={"epochs": 8}, runtime={"checkpoint_steps": 1})
    true = LABELS.read_bytes()
    repro = start_repro(log := finished.with_name("log"))
    wait_for(lambda: "EPOCH: 2" in log.read_text())
    write_in_place(true[:-8000] + bytes(8000))
    time.sleep(0.02)
    write_in_place(true)
    assert repro.wait() != 0
    assert re.search(r"error: data/digits\S* was written to while train ran", log.read_text())
    assert "continuing from the checkpoint" in dvc("repro", "train")
    honest = locations.MODEL.read_bytes()
    shutil.rmtree("checkpoints")
    dvc("repro", "--force", "--single-item", "train")
    assert locations.MODEL.read_bytes() == honest


def test_a_new_link_to_the_data_is_no_change_of_them(finished: Path) -> None:
    inputs = read_project().inputs("train")
    Path("link.npy").hardlink_to(LABELS)
    require_unchanged("train", inputs)
    before = LABELS.stat()
    write_in_place(LABELS.read_bytes()[:-8] + bytes(8))
    os.utime(LABELS, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match="data/digits"):
        require_unchanged("train", inputs)


def test_sync_publishes_no_setting_that_no_stage_has_run_with(finished: Path) -> None:
    before = len(all_runs(finished))
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("      - evaluate\n", "      - evaluate\n      - runtime.workers\n"))
    assert "evaluate ran with runtime.workers not set" in run("python", "-m", "pipeline.sync", cwd=finished)
    assert len(all_runs(finished)) == before


@pytest.mark.parametrize(
    "changed", ["src/image_classifier/training/loop.py", "reports/lr_find/lr_find.json", "data/digits"]
)
def test_a_changed_dependency_ends_a_stage_and_is_named(workspace: Path, changed: str) -> None:
    Path("data/digits").mkdir(parents=True)
    Path("reports/lr_find").mkdir(parents=True)
    for file in ("data/digits/train_images.npy", "reports/lr_find/lr_find.json"):
        Path(file).write_text("1")
    before = read_project().inputs("train")
    require_unchanged("train", before)
    edited = Path(changed) / "train_images.npy" if changed == "data/digits" else Path(changed)
    edited.write_text(f"{edited.read_text()} ")
    with pytest.raises(UserError, match=f"changed while train ran: {changed}"):
        require_unchanged("train", before)


def test_params_that_are_being_edited_end_a_stage_with_the_reason(workspace: Path) -> None:
    before = read_project().inputs("train")
    locations.PARAMS.write_text("train: [")
    with pytest.raises(UserError, match=r"changed while train ran: params\.yaml is not valid YAML"):
        require_unchanged("train", before)


def test_a_full_disk_leaves_the_old_output_and_one_line(tmp_path: Path) -> None:
    write_text(tmp_path / "table.csv", "old")
    with full_disk(1000), pytest.raises(UserError, match=r"cannot write .*table\.csv \(File too large\): make room"):
        write_text(tmp_path / "table.csv", "new" * 1000)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
