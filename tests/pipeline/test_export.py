"""The command that exports the model."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from image_classifier.data import load_dataset
from image_classifier.evaluation.predictions import read_predictions
from image_classifier.project import locations
from image_classifier.project.params import load_params
from image_classifier.system.errors import UserError
from image_classifier.tracking.lookup import download_run, find_runs
from pipeline import export

FILES = ["export/float32/model.onnx", "export/float32/proof.json", "export/float32/model_card.md"]


def run_export(*, int8: bool = False) -> None:
    export.run(Namespace(int8=int8), load_params(locations.PARAMS))


def test_an_export_is_proved_and_in_the_run_and_answers_like_stage_evaluate(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_export()
    evaluated, printed = read_predictions(locations.PREDICTIONS), capsys.readouterr().out
    assert "ONNX float32 answers as the trained model does: of 359 test images none got another class" in printed

    params = load_params(locations.PARAMS)
    run = download_run(params, find_runs(params, "HEAD")[0].info.run_id, FILES, Path("from_mlflow"))
    session = onnxruntime.InferenceSession(Path("from_mlflow") / FILES[0], providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == [*evaluated.classes]
    assert metadata["mlflow_run"] == run.info.run_id
    images = np.asarray(load_dataset(locations.DATA / "digits").test_images)
    np.testing.assert_allclose(session.run(None, {"images": images})[0], evaluated.probabilities, atol=1e-5)

    proof = json.loads((Path("from_mlflow") / FILES[1]).read_text())
    assert proof["forms"]["ONNX float32"]["right"] == evaluated.right.sum()
    assert proof["verdict"] in (Path("from_mlflow") / FILES[2]).read_text()


def test_8_bits_are_written_with_what_they_cost(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locations.PARAMS.write_text(locations.PARAMS.read_text().replace("int8_points: 1.0", "int8_points: 100.0"))
    run_export(int8=True)
    proof = json.loads((locations.EXPORT / "int8" / "proof.json").read_text())
    sizes = [form["bytes"] for form in proof["forms"].values()]
    assert list(proof["forms"]) == ["PyTorch", "ONNX float32", "ONNX int8"]
    assert (locations.EXPORT / "int8" / "model.onnx").stat().st_size == sizes[2] < sizes[1]
    assert proof["verdict"] in capsys.readouterr().out


def test_an_export_that_differs_too_much_is_not_written(finished: Path) -> None:
    text = locations.PARAMS.read_text()
    locations.PARAMS.write_text(text.replace("tolerance: 1.0e-4", "tolerance: 1.0e-12"))
    with pytest.raises(UserError, match=r"differs by .*; export.tolerance allows 1e-12, so nothing was written"):
        run_export()
    locations.PARAMS.write_text(text.replace("calibration_images: 512", "calibration_images: 2000"))
    with pytest.raises(UserError, match=r"export\.calibration_images is 2000; allowed: 1 to 1438, the training images"):
        run_export(int8=True)
    assert not locations.EXPORT.exists()
