"""`python -m pipeline.export`: the trained model as an ONNX file, proved on the whole test set.

The file takes raw images, so nothing has to be prepared where it is used. An export that answers otherwise than the
trained model is not written. The file, its proof, and a model card with the proof, are in `export/float32`, or with
--int8 in `export/int8`, and in the MLflow run of the weights.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from importlib.metadata import version
from pathlib import Path

from image_classifier.data import Dataset, Images, load_dataset, split_validation
from image_classifier.export.proof import Proof, measure
from image_classifier.model.model_file import load_model
from image_classifier.project import locations
from image_classifier.project.hashing import file_md5
from image_classifier.project.params import Params, load_params
from image_classifier.serving.prediction import Predictor, load_predictor
from image_classifier.system.errors import UserError
from image_classifier.system.files import write_bytes, write_json, write_text
from image_classifier.system.tables import as_markdown, as_text
from pipeline.stage import main


def run(options: Namespace, params: Params) -> None:
    """Export the model of this project, or else of the demo; print, write and publish the export with its proof.

    A UserError if a package, the data or the model card is missing, or the export differs more than is allowed.
    """
    from image_classifier.export.onnx_file import OnnxModel, to_int8, to_onnx  # the packages may be missing
    from image_classifier.tracking.exports import publish_export, run_of_weights  # MLflow: 2 s

    predictor = load_predictor(params.compute)
    weights, threads = predictor.folder / locations.MODEL, predictor.compute.threads
    model_md5 = file_md5(weights)
    dataset, card = read_dataset(predictor), read_card(predictor.folder, model_md5)
    for_ranges = calibration_images(dataset, params) if options.int8 else None
    experiment = load_params(predictor.folder / locations.PARAMS).runtime.experiment
    published = run_of_weights(experiment, model_md5)
    facts = {
        "dataset": dataset.name,
        "classes": json.dumps(dataset.classes, ensure_ascii=False),
        "weights_md5": model_md5,
        "mlflow_run": published.info.run_id if published else "none",
        "unsure_up_to": "none" if predictor.unsure_up_to is None else str(predictor.unsure_up_to),
        "license": params.export.license,
    }

    print("exporting takes half a minute", file=sys.stderr)
    content = to_onnx(load_model(weights), facts)
    trained = measure("PyTorch", dataset, weights.stat().st_size, predictor.probabilities)
    exported = measure("ONNX float32", dataset, len(content), OnnxModel(content, threads).probabilities)
    proof = Proof(trained, trained, exported)
    if for_ranges is not None:
        content = to_int8(content, for_ranges)
        int8 = measure("ONNX int8", dataset, len(content), OnnxModel(content, threads).probabilities)
        proof = Proof(trained, exported, int8)
    print(f"{as_text(proof.rows())}\n\n{proof.verdict()}\n")
    proof.require(params.export.tolerance, params.export.int8_points)

    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime"))
    measured = f"Measured on {predictor.compute}, with {versions}."
    folder = predictor.folder / locations.EXPORT / ("int8" if options.int8 else "float32")
    write_bytes(folder / "model.onnx", content)
    write_json(folder / "proof.json", facts | {"measured": measured} | proof.facts())
    section = [f"## As {proof.exported.name}", f"{proof.verdict()} {measured}", as_markdown(proof.rows())]
    write_text(folder / "model_card.md", "\n\n".join([card.rstrip(), *section, ""]))
    print(f"wrote model.onnx, proof.json and model_card.md to {folder}")
    if published:
        print(publish_export(experiment, published, folder))
    else:
        print("MLflow has no run of these weights: `python -m pipeline.sync` makes it; then export again")


def read_dataset(predictor: Predictor) -> Dataset:
    """The data set of the model; a UserError if it is missing, or has other classes or another size now."""
    model, folder = predictor.model, predictor.folder / locations.DATA / predictor.model.dataset
    dataset = load_dataset(folder)
    if (dataset.classes, dataset.image_px) != (model.classes, model.image_px):
        raise UserError(f"{folder} has other classes, or images of another size, than the model: run `dvc repro`")
    return dataset


def read_card(folder: Path, model_md5: str) -> str:
    """The model card; a UserError if it is missing, or that of other weights."""
    path = folder / locations.MODEL_CARD
    try:
        card = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`, or fetch it with `dvc pull`") from None
    if model_md5 not in card:
        raise UserError(f"{path} describes other weights than {locations.MODEL}: run `dvc repro`")
    return card


def calibration_images(dataset: Dataset, params: Params) -> Images:
    """Training images with each class's share, to find the ranges of 8 bits; a UserError if there are too few."""
    wanted, available = params.export.calibration_images, len(dataset.train_labels)
    if wanted > available:
        raise UserError(f"export.calibration_images is {wanted}; allowed: 1 to {available}, the training images")
    _, chosen = split_validation(dataset.train_labels, wanted, params.data.split_seed)
    return dataset.train_images[chosen]


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.export", description=__doc__)
    parser.add_argument("--int8", action="store_true", help="use 8 bits: a quarter of the size, and often faster")
    options = parser.parse_args()
    main(lambda: run(options, load_params(locations.PARAMS)))
