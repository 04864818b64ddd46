"""Edits while stages run, and linked caches: `dvc.lock`, DVC's cache and MLflow stay correct. With real DVC."""

import json
import shutil
from pathlib import Path

import pytest
from support.finished_pipeline import run, run_stages
from support.real_repro import LOCK, all_runs, dvc, executed, start_repro, wait_for
from test_checkpoint import full_disk
from test_folder import pictures

from cifar_resnet import layout
from cifar_resnet.errors import UserError
from cifar_resnet.files import write_text
from cifar_resnet.history import read_history
from cifar_resnet.params import load_params
from cifar_resnet.project import Inputs, path_md5, read_lock, read_project
from cifar_resnet.records import remove_false_records, require_older, require_unchanged, write_receipt
from cifar_resnet.tracking.runs import STATE
from pipeline.demo import overlay


def change(**sections: dict[str, object]) -> None:
    overlay(layout.PARAMS, sections, layout.PARAMS)


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
    assert len(read_history(layout.HISTORY)) == 4
    change(train={"epochs": 3})
    assert executed(dvc("repro", "train")) == ["train"]
    assert len(read_history(layout.HISTORY)) == read_lock()["train"].inputs.settings["train.epochs"] == 3


def test_no_stage_writes_into_a_linked_cache(finished: Path) -> None:
    cached = sorted(path for path in Path(".dvc/cache/files/md5").rglob("*") if path.is_file())
    before = {path: path_md5(path) for path in cached}
    for seed, link in enumerate(["symlink", "hardlink"], start=1):
        run("dvc", "config", "cache.type", link, cwd=finished)
        run("dvc", "checkout", "--relink", cwd=finished)
        assert layout.MODEL.is_symlink() or layout.MODEL.stat().st_nlink == 2
        change(data={"split_seed": seed}, train={"seed": seed})
        run_stages(load_params(layout.PARAMS))
        assert {path: path_md5(path) for path in cached} == before
        run("dvc", "checkout", "--force", cwd=finished)


def test_a_record_made_from_an_edit_after_the_end_of_a_stage_is_removed_with_its_cached_copy(workspace: Path) -> None:
    dvc("repro", "download")
    before = LOCK.read_bytes()
    LOCK.unlink()  # as it was when the stage ended
    write_receipt(read_project().stages["download"], read_project().inputs("download"))
    change(data={"split_seed": 7})
    LOCK.write_bytes(before.replace(b"data.split_seed: 0", b"data.split_seed: 7"))
    (removed,) = remove_false_records()
    assert "download" in removed
    assert "data.split_seed 0, params.yaml has 7" in removed
    assert "download" not in read_lock()
    assert remove_false_records() == []


def test_a_stage_whose_record_was_removed_runs_again_with_the_same_inputs(workspace: Path) -> None:
    dvc("repro", "download")
    after = LOCK.read_bytes()
    LOCK.unlink()  # as it was when the stage ended
    stage, inputs = read_project().stages["download"], read_project().inputs("download")
    write_receipt(stage, Inputs(inputs.settings, {**inputs.files, "pipeline/download.py": "before an edit"}))
    LOCK.write_bytes(after)
    assert len(remove_false_records()) == 1
    assert executed(dvc("repro", "download")) == ["download"]


def test_a_true_record_stays(workspace: Path) -> None:
    dvc("repro", "download")
    assert json.loads(Path("checkpoints/receipts/download.json").read_text())["recorded_before"] is None
    assert remove_false_records() == []
    assert "download" in read_lock()


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


def test_code_that_changed_while_a_process_started_is_refused(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("")
    require_older(Inputs({}, {str(module): ""}), started_ns=module.stat().st_ctime_ns)
    with pytest.raises(Exception, match=r"module\.py was changed while this process started"):
        require_older(Inputs({}, {str(module): ""}), started_ns=module.stat().st_ctime_ns - 1)


def test_sync_publishes_no_setting_that_no_stage_has_run_with(finished: Path) -> None:
    before = len(all_runs(finished))
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("      - evaluate\n", "      - evaluate\n      - runtime.workers\n"))
    assert "evaluate ran with runtime.workers not set" in run("python", "-m", "pipeline.sync", cwd=finished)
    assert len(all_runs(finished)) == before


@pytest.mark.parametrize("changed", ["src/cifar_resnet/training.py", "reports/lr_find/lr_find.json", "data/digits"])
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
    layout.PARAMS.write_text("train: [")
    with pytest.raises(UserError, match=r"changed while train ran: params\.yaml is not valid YAML"):
        require_unchanged("train", before)


def test_a_full_disk_leaves_the_old_output_and_one_line(tmp_path: Path) -> None:
    write_text(tmp_path / "table.csv", "old")
    with full_disk(1000), pytest.raises(UserError, match=r"cannot write .*table\.csv \(File too large\): make room"):
        write_text(tmp_path / "table.csv", "new" * 1000)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
