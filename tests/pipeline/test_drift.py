"""Pictures that came in later, as a served model logs them, against the test images."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from support.finished_pipeline import ran

from image_classifier.data import load_dataset
from image_classifier.evaluation.predictions import Evaluation
from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.params import Params, load_params
from image_classifier.system.errors import UserError
from image_classifier.tracking.publication import publish
from pipeline import drift, evaluate

LOG = Path("requests.jsonl")


@pytest.fixture
def settings(project: Path) -> Params:
    """The settings of a project with a model of random weights, in the working directory."""
    return load_params(locations.PARAMS)


def test_the_served_test_images_look_alike_and_darker_ones_do_not(
    settings: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(read_project(), ran())
    monkeypatch.setenv("CLASSIFIER_LOG", str(LOG))
    dataset = load_dataset(locations.DATA / "digits")
    served = mlflow.pyfunc.load_model(f"models:/{settings.runtime.registered_model}@champion")
    probabilities = served.predict(np.asarray(dataset.test_images)).astype(np.float64)
    evaluate.write_tables(Evaluation(dataset.classes, np.asarray(dataset.test_labels), probabilities))
    assert set(json.loads(LOG.read_text())) == {"time", "class", "confidence", "brightness", "contrast"}

    drift.run(settings.data, LOG)
    assert "The 20 pictures that came in look like the test images" in capsys.readouterr().out
    LOG.unlink()
    served.predict(np.asarray(dataset.test_images) // 2)
    drift.run(settings.data, LOG)
    printed = capsys.readouterr().out
    assert "differ from the test images by more than chance, in" in printed
    assert "brightness (p < 0.0001)" in printed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, r"requests.jsonl cannot be read \(No such file or directory\)"),
        ("", "is empty: set CLASSIFIER_LOG where the model is served"),
        ('{"class": ["0"], "confidence": [0.5], "bright', "line 1 is no record of a request"),
        ('{"class": ["0"], "confidence": [0.5, 0.1], "brightness": [0], "contrast": [0]}', "line 1 is no record"),
    ],
)
def test_a_log_that_cannot_be_used_is_one_line(settings: Params, text: str | None, reason: str) -> None:
    if text is not None:
        LOG.write_text(text)
    with pytest.raises(UserError, match=reason):
        drift.run(settings.data, LOG)
