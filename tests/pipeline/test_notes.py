"""What people write in MLflow stays, and what a publication changes is said."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from support.finished_pipeline import epochs, follow, ran, write_metrics, write_outputs
from support.project import PROJECT, TINY, MakeOnce, copy_project, enter

from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.params import load_params
from image_classifier.project.recipes import overlay
from image_classifier.tracking.champion import CHAMPION, CHOSEN, DATA, ELECTED
from image_classifier.tracking.notes import DESCRIBED, DESCRIPTION
from image_classifier.tracking.publication import publish

NAME = "cifar10-resnet"
NOTE = "Better than I thought: see the cats."


def publish_outputs(folder: Path, seed: int, accuracy: float) -> None:
    """Write the outputs of a training of this seed, and publish them."""
    overlay(PROJECT / "params.yaml", {**TINY, "train": {**TINY["train"], "seed": seed}}, locations.PARAMS)
    write_outputs(folder, load_params(locations.PARAMS), accuracy, seed)
    publish(read_project(), ran())


@pytest.fixture(scope="session")
def published_project(make_once: MakeOnce, empty_store: Path) -> Path:
    """A folder with the outputs of all stages, of which MLflow has two runs; the second is the champion."""

    def fill(folder: Path) -> None:
        (folder / "mlruns").mkdir()
        (folder / "mlruns" / "mlflow.db").write_bytes(empty_store.read_bytes())
        (folder / "dvc.yaml").write_bytes((PROJECT / "dvc.yaml").read_bytes())
        with pytest.MonkeyPatch.context() as patch:
            enter(folder, patch)
            publish_outputs(folder, 0, 0.75)
            publish_outputs(folder, 1, 0.85)

    return make_once("published", fill)


@pytest.fixture
def published(published_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the published project for one test, as the working directory."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return copy_project(published_project, tmp_path, monkeypatch)


def client() -> MlflowClient:
    return MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")


def newest_run() -> Run:
    """The run with the state on disk."""
    experiments = [experiment.experiment_id for experiment in client().search_experiments()]
    (run,) = client().search_runs(experiments, "params.`train.seed` = '1'")
    return run


def actions() -> tuple[str, ...]:
    return publish(read_project(), ran()).actions


def dump() -> list[str]:
    return list(sqlite3.connect("mlruns/mlflow.db").iterdump())


@pytest.mark.usefixtures("published")
def test_a_run_that_a_person_renamed_and_described_keeps_both() -> None:
    run_id = newest_run().info.run_id
    client().update_run(run_id, name="the one for the talk")
    client().set_tag(run_id, DESCRIPTION, NOTE)
    before = dump()
    publication = publish(read_project(), ran())
    assert (publication.actions, publication.run_name) == ((), "the one for the talk")
    assert dump() == before
    client().delete_tag(run_id, DESCRIPTION)  # whoever clears it gets ours again
    assert actions() == ("updated the run's description",)


@pytest.mark.usefixtures("project")
def test_what_people_write_while_it_trains_stays_to_the_last_stage() -> None:
    with follow() as live:
        for epoch in epochs(2):
            live.log_epoch(epoch)
    experiments = [experiment.experiment_id for experiment in client().search_experiments()]
    (run,) = client().search_runs(experiments)
    client().update_run(run.info.run_id, name="a warm evening")
    client().set_tag(run.info.run_id, DESCRIPTION, NOTE)
    assert "the run followed live is a warm evening now" in publish(read_project(), ran("train")).actions
    publish(read_project(), ran())
    (run,) = client().search_runs(experiments)
    assert (run.info.run_name, run.data.tags[DESCRIPTION]) == ("a warm evening", NOTE)


@pytest.mark.usefixtures("published")
def test_a_description_from_before_the_notes_is_replaced_only_if_this_project_wrote_it() -> None:
    run_id, ours = newest_run().info.run_id, newest_run().data.tags[DESCRIPTION]
    after_training = "Data set digits, epochs: 2, seed: 1."
    for shown, kept in ((after_training, ours), (f"{after_training} {NOTE}", f"{after_training} {NOTE}")):
        client().delete_tag(run_id, DESCRIBED)
        client().set_tag(run_id, DESCRIPTION, shown)
        publish(read_project(), ran())
        assert newest_run().data.tags[DESCRIPTION] == kept


def test_a_run_that_is_replaced_hands_over_what_people_wrote(published: Path) -> None:
    former = newest_run().info.run_id
    client().update_run(former, name="the one for the talk")
    client().set_tag(former, DESCRIPTION, NOTE)
    write_metrics(published, accuracy=0.8)
    publish(read_project(), ran())
    run = newest_run()
    assert run.info.run_id != former
    assert (run.info.run_name, run.data.tags[DESCRIPTION]) == ("the one for the talk", NOTE)


@pytest.mark.usefixtures("project")
def test_a_training_that_starts_over_takes_over_what_people_wrote() -> None:
    for _ in range(2):
        with follow() as live:
            live.log_epoch(epochs(1)[0])
        experiments = [experiment.experiment_id for experiment in client().search_experiments()]
        (run,) = client().search_runs(experiments)
        if run.data.tags.get(DESCRIPTION) != NOTE:
            first = run.info.run_id
            client().set_tag(run.info.run_id, DESCRIPTION, NOTE)
    assert run.info.run_id != first
    assert run.data.tags[DESCRIPTION] == NOTE


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("noted", [True, False])
def test_descriptions_of_a_version_and_of_the_registered_model_by_a_person_stay(noted: bool) -> None:
    if not noted:  # as a store of version 1.0
        client().delete_registered_model_tag(NAME, DESCRIBED)
        client().delete_model_version_tag(NAME, "2", DESCRIBED)
    by_us = client().get_registered_model(NAME).description or ""
    client().update_registered_model(NAME, f"{by_us}\n{NOTE}")
    client().update_model_version(NAME, "2", f"# Model card\n{NOTE}")
    locations.MODEL_CARD.write_text("# Model card, corrected\n")
    assert actions() == ("files added: 1",)
    assert client().get_model_version(NAME, "2").description == f"# Model card\n{NOTE}"
    assert client().get_registered_model(NAME).description == f"{by_us}\n{NOTE}"


@pytest.mark.usefixtures("published")
def test_a_registered_model_described_by_an_earlier_version_is_described_anew() -> None:
    rule = (
        "Of two versions on the same data set, the one with the higher validation accuracy is `champion`. If one was "
    )
    rule += "trained without held-out images, test accuracy decides. If they are equal, the older one is."
    client().delete_registered_model_tag(NAME, DESCRIBED)
    client().update_registered_model(NAME, f"{rule} Now it is version 2:\n\n# Model card\n")
    assert actions() == ("described cifar10-resnet by its champion's model card",)


def test_an_alias_that_a_person_moved_stays_until_it_is_removed(published: Path) -> None:
    client().set_registered_model_alias(NAME, CHAMPION, "1")
    publication = publish(read_project(), ran())
    assert publication.actions == (
        "challenger of cifar10-resnet is now version 2",
        "described cifar10-resnet by its champion's model card",
    )
    assert publication.note
    assert "stays version 1, to which somebody moved the alias; the best is version 2, 85.00%" in publication.note
    publish_outputs(published, 2, 0.95)
    assert int(client().get_model_version_by_alias(NAME, CHAMPION).version) == 1
    client().delete_registered_model_alias(NAME, CHAMPION)
    assert any("is now version 3, 95.00%" in line for line in actions())


def test_in_a_store_from_before_it_was_noted_only_the_last_choice_is_this_projects(published: Path) -> None:
    client().delete_registered_model_tag(NAME, ELECTED)
    client().set_registered_model_alias(NAME, CHAMPION, "1")  # back to what was chosen before
    assert CHOSEN in client().get_model_version(NAME, "1").tags
    publish(read_project(), ran())
    assert int(client().get_model_version_by_alias(NAME, CHAMPION).version) == 1
    client().set_registered_model_alias(NAME, CHAMPION, "2")
    client().delete_registered_model_tag(NAME, ELECTED)
    publish_outputs(published, 2, 0.95)
    assert int(client().get_model_version_by_alias(NAME, CHAMPION).version) == 3


def rename_as_after_training() -> None:
    client().update_run(newest_run().info.run_id, name="digits-2ep-seed1-1a2b3c4d")


CHANGES: dict[str, Callable[[], object]] = {
    "updated the run's name": rename_as_after_training,
    "updated the run's description": lambda: client().delete_tag(newest_run().info.run_id, DESCRIPTION),
    "updated the run's status": lambda: client().update_run(newest_run().info.run_id, "FAILED"),
    f"set tag {DATA} of version 2": lambda: client().delete_model_version_tag(NAME, "2", DATA),
    "described version 2 by its model card": lambda: client().update_model_version(NAME, "2", ""),
    "described cifar10-resnet by its champion's model card": lambda: client().update_registered_model(NAME, ""),
}


@pytest.mark.usefixtures("published")
def test_nothing_to_do_is_said_only_if_nothing_was_done() -> None:
    for said, change in CHANGES.items():
        change()
        assert said in actions(), said
        before = dump()
        assert actions() == ()
        assert dump() == before
