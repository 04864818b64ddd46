"""What version 1.0 wrote is still of use: its model file, its served model and its runs."""

import tarfile
from pathlib import Path

import mlflow
import numpy as np
import pytest
from support.finished_pipeline import note_inputs, write_outputs
from support.project import PROJECT

from image_classifier.evaluation.predictions import read_predictions
from image_classifier.model.compute import prepare_compute
from image_classifier.model.inference import predict_logits, softmax
from image_classifier.model.model_file import load_model
from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.params import Params, load_params
from image_classifier.sources.making import make_dataset
from image_classifier.tracking.lookup import find_runs
from image_classifier.tracking.publication import publish

FILES = PROJECT / "tests" / "support" / "version-1.0.tar.xz"  # made by commit c2742b5, from digits, with width 4
RUN = "digits-2ep-seed0-11.98-a64c75a5"


@pytest.fixture
def params(project: Path) -> Params:
    """The settings of a project with the store, the model file and the predictions of version 1.0."""
    write_outputs(project, load_params(project / "params.yaml"))
    with tarfile.open(FILES) as archive:
        wanted = [member for member in archive if not member.name.endswith(("dvc.lock", "params.yaml"))]
        archive.extractall(project, wanted, filter="data")
    return load_params(project / "params.yaml")


def test_a_model_file_gives_the_probabilities_that_version_1_evaluated(params: Params) -> None:
    net, images = load_model(locations.MODEL).net, make_dataset(params.data).test_images
    probabilities = softmax(predict_logits(net, images, prepare_compute(params.compute)))
    written = read_predictions(locations.PREDICTIONS).probabilities
    np.testing.assert_allclose(probabilities, written, rtol=0, atol=1e-5)


def test_a_served_model_gives_the_probabilities_that_version_1_evaluated(params: Params) -> None:
    find_runs(params, RUN)  # corrects the locations in the store, which was made elsewhere
    model = mlflow.pyfunc.load_model(f"models:/{params.runtime.registered_model}@champion")
    images = make_dataset(params.data).test_images[:5]
    written = read_predictions(locations.PREDICTIONS).probabilities[:5]
    np.testing.assert_allclose(np.array(model.predict(images.tolist())), written, rtol=0, atol=1e-5)


def test_a_run_is_found_and_stays_when_a_new_one_is_published(params: Params) -> None:
    (found,) = find_runs(params, RUN)
    note_inputs("train")
    publication = publish(read_project(), {"train": read_project().inputs("train")})
    assert publication.run_id
    assert publication.run_id != found.info.run_id
    (again,) = find_runs(params, RUN)
    assert (again.info.run_id, again.info.status) == (found.info.run_id, "FINISHED")
    assert again.data.metrics["evaluate/accuracy"] == found.data.metrics["evaluate/accuracy"]
