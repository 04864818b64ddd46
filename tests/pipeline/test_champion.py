"""The alias `champion`: which registered versions are compared, and what is said where they are not."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from PIL import Image
from support.finished_pipeline import note_inputs, ran, run_train, write_outputs
from support.project import PROJECT, TINY
from support.real_repro import dvc

from image_classifier.project import locations
from image_classifier.project.definition import Project, read_project
from image_classifier.project.params import load_params
from image_classifier.project.recipes import overlay
from image_classifier.system.errors import UserError
from image_classifier.tracking.champion import CHALLENGER, CHAMPION, CLASSES, DATA, PROMOTED
from image_classifier.tracking.promotion import promote
from image_classifier.tracking.publication import publish, publish_stage
from pipeline import download, evaluate, lr_find, sync

NAME = "cifar10-resnet"


def client() -> MlflowClient:
    return MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")


def champion() -> ModelVersion:
    return client().get_model_version_by_alias(NAME, CHAMPION)


@pytest.fixture
def publish_model(project: Path) -> Callable[..., tuple[str, ...]]:
    """A function that publishes one more trained model, and returns the lines that are printed."""

    def publish_one(seed: int, accuracy: float, split: int = 0) -> tuple[str, ...]:
        write_outputs(project, load_params(locations.PARAMS), accuracy, seed)
        if split:  # other images in the test set
            np.save(project / "data" / "digits" / "test_images.npy", np.full((20, 32, 32, 3), split, np.uint8))
        overlay(PROJECT / "params.yaml", {**TINY, "train": {**TINY["train"], "seed": seed}}, locations.PARAMS)
        publication = publish(read_project(), ran())
        return (*publication.actions, *filter(None, [publication.note]))

    return publish_one


def fill(folder: Path, classes: Iterable[str], number: int) -> None:
    """Make the pictures of a data set: each class has a colour of its own."""
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            colour = (80 * place, 255 - 80 * place, index)
            Image.new("RGB", (32, 32), colour).save(folder / name / f"{index}.png")


def train_on(folder: str) -> None:
    """Run the stages up to evaluate on a folder of pictures, record them, and publish the last one."""
    overlay(locations.PARAMS, {"data": {"folder": folder}}, locations.PARAMS)
    params = load_params(locations.PARAMS)
    download.run(params.data, params.model, params.train, Project(params, {}, {}))
    lr_find.run(params.data, params.augment, params.model, params.lr_find, params.train, params.compute)
    run_train()
    evaluate.run(params.data, params.evaluate, params.compute)
    stages = ("download", "lr_find", "train", "evaluate")
    note_inputs(*stages)
    dvc("commit", "--force", *stages)
    publish_stage("evaluate", read_project(), read_project().inputs("evaluate"))


@pytest.mark.usefixtures("workspace")
def test_models_of_other_pictures_are_not_compared_and_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    changes: dict[str, dict[str, object]] = {
        "data": {"dataset": "folder"},
        "train": {"batch_size": 16, "lr_min": 0.01, "lr_max": 0.1},
    }
    overlay(locations.PARAMS, changes, locations.PARAMS)
    fill(Path("flowers"), ["rose", "tulip"], 20)
    fill(Path("dogs"), ["beagle", "poodle"], 20)
    train_on("flowers")
    assert "champion of cifar10-resnet is now version 1, " in capsys.readouterr().out

    train_on("dogs")
    said = capsys.readouterr().out.splitlines()[-1]
    (dogs,) = (version for version in client().search_model_versions(f"name='{NAME}'") if int(version.version) == 2)
    assert int(champion().version) == 1
    assert f"stays version 1, whose data are folder {champion().tags[DATA][:8]} (rose, tulip)" in said
    assert f"here they are folder {dogs.tags[DATA][:8]} (beagle, poodle), and the best on them is version 2" in said
    assert "set another runtime.registered_model, or give version 2 the alias in MLflow's UI" in said
    client().set_model_version_tag(NAME, "1", "accuracy", "0")  # figures of other data move nothing
    sync.run(read_project())
    assert f"is complete\n{said.removeprefix('MLflow: ')}\n" in capsys.readouterr().out
    assert int(champion().version) == 1

    fill(Path("flowers"), ["rose", "tulip"], 30)
    train_on("flowers")
    assert "stays version 1, whose data are folder" in capsys.readouterr().out
    assert int(champion().version) == 1

    overlay(locations.PARAMS, {"runtime": {"registered_model": "flowers-of-june"}}, locations.PARAMS)
    sync.run(read_project())
    assert "champion of flowers-of-june is now version 1" in capsys.readouterr().out


def test_other_settings_on_the_same_data_compete(publish_model: Callable[..., tuple[str, ...]]) -> None:
    publish_model(0, 0.7)
    assert any("champion of cifar10-resnet is now version 2" in line for line in publish_model(1, 0.8))
    assert not any("champion" in line for line in publish_model(2, 0.75))
    assert int(champion().version) == 2
    assert champion().tags[CLASSES] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"


def test_a_better_model_on_other_test_images_takes_no_alias(publish_model: Callable[..., tuple[str, ...]]) -> None:
    publish_model(0, 0.7)
    assert "stays version 1, whose data are digits" in publish_model(1, 0.9, split=1)[-1]
    assert int(champion().version) == 1
    client().set_registered_model_alias(NAME, CHAMPION, "2")
    assert "stays version 2, whose data are digits" in publish_model(2, 0.8)[-1]
    assert any("is now version 4, 95.00%" in line for line in publish_model(3, 0.95, split=1))


def test_a_version_from_before_the_tag_is_known_by_the_data_of_its_run(
    publish_model: Callable[..., tuple[str, ...]],
) -> None:
    publish_model(0, 0.7)
    md5 = champion().tags[DATA]
    for tag in (DATA, CLASSES):
        client().delete_model_version_tag(NAME, "1", tag)
    assert f"stays version 1, whose data are digits {md5[:8]}; here they are" in publish_model(1, 0.9, split=1)[-1]
    assert any("is now version 3" in line for line in publish_model(2, 0.8))


def test_a_version_whose_data_nobody_knows_is_not_replaced(publish_model: Callable[..., tuple[str, ...]]) -> None:
    client().create_registered_model(NAME)
    client().create_model_version(NAME, Path("models").absolute().as_uri())
    client().set_registered_model_alias(NAME, CHAMPION, "1")
    assert "champion of cifar10-resnet stays version 1, whose data are unknown" in publish_model(0, 0.7)[-1]


def test_a_person_can_promote_a_worse_model_and_the_best_becomes_challenger_until_it_is_champion_again(
    publish_model: Callable[..., tuple[str, ...]],
) -> None:
    publish_model(seed=0, accuracy=0.75)
    worse = champion().run_id or ""
    publish_model(seed=1, accuracy=0.9)
    printed = "\n".join(promote(load_params(locations.PARAMS), worse, "it is smaller"))
    assert printed.startswith(
        f"champion of {NAME} is now version 1 (it is smaller)\nchallenger of {NAME} is now version 2"
    )
    assert (
        "stays version 1, to which somebody moved the alias; the best is version 2, 90.00%, the challenger" in printed
    )
    assert champion().tags[PROMOTED] == "it is smaller"
    publish_model(seed=2, accuracy=0.8)
    held = (champion(), client().get_model_version_by_alias(NAME, CHALLENGER))
    assert [int(version.version) for version in held] == [1, 2]

    client().delete_registered_model_alias(NAME, CHAMPION)
    assert f"{NAME} has no challenger any more: version 2 is champion" in publish_model(seed=2, accuracy=0.8)
    with pytest.raises(MlflowException):
        client().get_model_version_by_alias(NAME, CHALLENGER)


def test_a_run_without_a_registered_model_cannot_be_promoted(publish_model: Callable[..., tuple[str, ...]]) -> None:
    publish_model(seed=0, accuracy=0.75)
    run = champion().run_id or ""
    client().delete_model_version(NAME, "1")
    with pytest.raises(
        UserError, match=rf"{run} has no version of {NAME}: `python -m pipeline.sync` registers its model"
    ):
        list(promote(load_params(locations.PARAMS), run, "why not"))
