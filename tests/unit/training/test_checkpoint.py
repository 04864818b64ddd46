import os
from pathlib import Path

import pytest
import torch
from support.files import full_disk, unprivileged

from image_classifier.system.errors import UserError
from image_classifier.training.checkpoint import KEPT, Checkpoint

pytestmark = pytest.mark.usefixtures("folder")


def saved_checkpoint(key: str, step: int = 1) -> Checkpoint:
    checkpoint = Checkpoint(key)
    checkpoint.folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save({"step": step, "weights": torch.full((10_000,), float(step))})
    return checkpoint


def saved_step(checkpoint: Checkpoint) -> int:
    state = checkpoint.load()
    assert state
    assert (state["weights"] == state["step"]).all()
    return int(state["step"])


def test_the_last_state_saved_is_loaded() -> None:
    checkpoint = saved_checkpoint("training", step=1)
    checkpoint.save({"step": 2, "weights": torch.full((10_000,), 2.0)})
    assert saved_step(Checkpoint("training")) == 2
    assert Checkpoint("another training").load() is None


def test_a_queued_experiment_keeps_its_checkpoints_in_the_main_workspace(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(folder / "main"))
    assert saved_checkpoint("training").path.is_relative_to(folder / "main")


@pytest.mark.parametrize("num_bytes", [0, 20_000])
def test_a_full_disk_leaves_the_last_state_and_nothing_else(num_bytes: int) -> None:
    checkpoint = saved_checkpoint("training")
    with full_disk(num_bytes), pytest.raises(UserError) as error:
        checkpoint.save({"step": 2, "weights": torch.full((10_000,), 2.0)})
    assert str(error.value).startswith(f"cannot write {checkpoint.path} (File too large): make room")
    assert "\n" not in str(error.value)
    assert saved_step(checkpoint) == 1
    assert list(checkpoint.folder.iterdir()) == [checkpoint.path]


def test_a_folder_that_was_closed_meanwhile_leaves_the_last_state() -> None:
    checkpoint = saved_checkpoint("training")
    checkpoint.folder.chmod(0o500)
    with unprivileged(), pytest.raises(UserError, match=r"cannot write .* \(Permission denied\): "):
        checkpoint.save({"step": 2, "weights": torch.full((10_000,), 2.0)})
    checkpoint.folder.chmod(0o700)
    assert saved_step(checkpoint) == 1


def test_a_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    folder.chmod(0o500)
    with unprivileged(), pytest.raises(UserError) as error:
        Checkpoint("training").lock().__enter__()
    assert str(error.value).startswith(f"cannot keep checkpoints in {folder}/checkpoints/training: ")
    assert str(error.value).endswith("correct the folder's permissions")


def test_no_code_is_unpickled_from_a_checkpoint() -> None:
    checkpoint = saved_checkpoint("training")
    torch.save({"step": Path("not a tensor")}, checkpoint.path)
    with pytest.raises(UserError, match="Weights only load failed"):
        checkpoint.load()


@pytest.mark.parametrize("kept_bytes", [0, 1000])
def test_a_damaged_checkpoint_is_named(kept_bytes: int) -> None:
    checkpoint = saved_checkpoint("training")
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:kept_bytes])
    with pytest.raises(UserError) as error:
        checkpoint.load()
    assert str(error.value).startswith(f"the checkpoint {checkpoint.path} is damaged (")
    assert str(error.value).endswith("): delete it, and `dvc repro` trains from the start")
    assert "\n" not in str(error.value)


def test_the_newest_states_of_unfinished_trainings_are_kept() -> None:
    for age in range(KEPT + 2):
        old = saved_checkpoint(f"old {age}")
        os.utime(old.path, (1_000_000 - age, 1_000_000 - age))
    current = saved_checkpoint("current")
    current.remove_old()
    kept = {path.parent.name for path in current.folder.parent.glob("*/state.pt")}
    assert kept == {"current", *(f"old {age}" for age in range(KEPT))}


def test_a_state_that_another_process_deletes_meanwhile_is_ignored() -> None:
    for age in range(KEPT + 1):
        saved_checkpoint(f"old {age}")
    current = saved_checkpoint("current")
    gone = current.folder.with_name("gone") / "state.pt"
    gone.parent.mkdir()
    gone.symlink_to("nothing")  # listed, but not there
    current.remove_old()
    assert len([path for path in current.folder.parent.glob("old */state.pt") if path.exists()]) == KEPT


@pytest.mark.parametrize("recorded", [True, False])
def test_the_state_of_a_finished_training_is_removed_once_dvc_has_recorded_it(folder: Path, *, recorded: bool) -> None:
    checkpoint = saved_checkpoint("training")
    (folder / "model.pt").write_bytes(b"weights")
    checkpoint.finish(folder / "model.pt")
    md5 = "63f4f1e9b725370f459720575cd5f953"
    outs = f"[{{path: model.pt, md5: {md5 if recorded else 'of another model'}}}]"
    (folder / "dvc.lock").write_text(f"stages: {{train: {{cmd: train, outs: {outs}}}}}")
    checkpoint.remove_old()
    assert checkpoint.path.exists() == (not recorded)
