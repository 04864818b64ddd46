"""The model in the form in which MLflow serves it."""

import tempfile
from pathlib import Path

import mlflow.pyfunc
import mlflow.pytorch
import numpy as np
import torch
from mlflow.entities import LoggedModel, Run
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from cifar_resnet import layout
from cifar_resnet.model_file import load_model
from cifar_resnet.networks.base import Classifier
from cifar_resnet.params import Params
from cifar_resnet.tracking.runs import MODEL_MD5
from cifar_resnet.tracking.store import Store

EXAMPLES = 4  # images in the input example; with one, the exported model would take no other number
SCORING = Path(__file__).with_name("scoring.py")


def log_model(store: Store, run: Run, params: Params, model_md5: str, known: LoggedModel | None = None) -> LoggedModel:
    """Log `models/model.pt` in the form in which it is served: raw uint8 images to probabilities, without pickle.

    `known` is the model in MLflow whose files are to be written again.

    Raises:
        UserError: the file is missing or no model.
    """
    trained = load_model(layout.MODEL)
    served = Classifier(trained.net).eval()
    images = np.zeros((EXAMPLES, trained.image_px, trained.image_px, 3), np.uint8)
    inputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, *images.shape[1:]))])
    outputs = Schema([TensorSpec(np.dtype(np.float32), (-1, len(trained.classes)))])
    requirements = [f"torch=={torch.__version__.partition('+')[0]}"]  # a suffix like +cpu is on no index
    model = known or store.client.create_logged_model(
        store.experiment_id, name=params.data.dataset, source_run_id=run.info.run_id, tags={MODEL_MD5: model_md5},
        params=run.data.params,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "network"
        mlflow.pytorch.save_model(
            served, network, signature=ModelSignature(inputs, outputs), input_example=images,
            pip_requirements=requirements,
        )  # fmt: skip
        mlflow.pyfunc.log_model(
            name=model.name,
            model_id=model.model_id,
            python_model=SCORING,
            artifacts={"network": str(network)},
            signature=ModelSignature(outputs=outputs),
            input_example=images,
            pip_requirements=requirements,
            metadata={"classes": list(trained.classes)},
        )
    return store.client.get_logged_model(model.model_id)
