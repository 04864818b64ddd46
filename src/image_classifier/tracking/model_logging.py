"""Logging the model to MLflow in the form in which it is served, without pickle."""

import base64
import io
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow.pyfunc
import mlflow.pytorch
import numpy as np
from mlflow.entities import LoggedModel, Run
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType
from PIL import Image

from image_classifier.model.model_file import load_model
from image_classifier.model.network import Classifier
from image_classifier.project import locations
from image_classifier.project.params import Params
from image_classifier.sources import image_decoding
from image_classifier.tracking.runs import MODEL_MD5, UNSURE_UP_TO
from image_classifier.tracking.store import Store

EXAMPLES = 4  # images in the network's input example; with 1, the exported network would accept no other number
SERVED_MODEL = Path(__file__).with_name("served_model.py")


def log_model(
    store: Store, run: Run, params: Params, model_md5: str, unsure_up_to: float | None, known: LoggedModel | None = None
) -> LoggedModel:
    """Log `models/model.pt` as an exported network, from raw uint8 images to probabilities, with its server code.

    `unsure_up_to` is the confidence up to which it is unsure, if that is known. `known` is a model in MLflow that gets
    its files again.

    A UserError if the file is missing or holds no model.
    """
    trained = load_model(locations.MODEL)
    images = np.zeros((EXAMPLES, trained.image_px, trained.image_px, 3), np.uint8)
    inputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, *images.shape[1:]))])
    outputs = Schema([TensorSpec(np.dtype(np.float32), (-1, len(trained.classes)))])
    as_it_came = ModelSignature(Schema([ColSpec(AnyType())]))  # type: ignore[no-untyped-call]
    as_it_came._is_signature_from_type_hint = True  # else MLflow converts a request before the served model sees it
    file = io.BytesIO()
    Image.fromarray(images[0]).save(file, "PNG")
    model = known or store.client.create_logged_model(
        store.experiment_id,
        name=params.data.dataset,
        source_run_id=run.info.run_id,
        tags={MODEL_MD5: model_md5},
        params=run.data.params,
    )
    # No package index has a suffix like +cpu.
    requirements = [f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "pillow")]
    metadata = {"classes": list(trained.classes), "unsure_up_to": unsure_up_to}
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "network"
        mlflow.pytorch.save_model(
            Classifier(trained.net).eval(),
            network,
            signature=ModelSignature(inputs, outputs),
            input_example=images,
            pip_requirements=requirements,
            metadata=metadata,
            serialization_format="pt2",
        )
        mlflow.pyfunc.log_model(
            name=model.name,
            model_id=model.model_id,
            python_model=SERVED_MODEL,
            artifacts={"network": str(network), "image_decoding": image_decoding.__file__},
            signature=as_it_came,
            input_example=[base64.b64encode(file.getvalue()).decode()],
            pip_requirements=requirements,
            metadata=metadata,
        )
    store.client.set_logged_model_tags(model.model_id, {UNSURE_UP_TO: str(unsure_up_to)})
    return store.client.get_logged_model(model.model_id)
