"""What MLflow runs to answer a request: a copy of this file is kept with every model, and needs nothing else of ours.

The signature leaves the input to the checks here: MLflow would make it uint8 itself, and turn 0.5 into 0 and "7" into
7 without a word. Someone who sends images scaled to 0..1 must hear of it.
"""

from typing import Any

import mlflow.pytorch
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model, set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

BATCH_SIZE = 256  # images that the network sees at once; all of a request took 2.7 GB


class ImageClassifier(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        self.network = mlflow.pytorch.load_model(context.artifacts["network"])
        self.image_shape = Model.load(context.artifacts["network"]).signature.inputs.inputs[0].shape[1:]

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Images (N, H, W, 3), whole numbers 0 to 255, to probabilities (N, num_classes) float32.

        Raises:
            MlflowException: the input is something else; a server answers 400 with the reason.
        """
        images = torch.from_numpy(to_uint8(model_input, self.image_shape))
        with torch.inference_mode():
            return torch.cat([self.network(batch) for batch in images.split(BATCH_SIZE)]).numpy()


def to_uint8(images: object, shape: tuple[int, ...]) -> np.ndarray:
    """The images as the network takes them, if they are images.

    Raises:
        MlflowException: they are not.
    """
    if not isinstance(images, np.ndarray):
        raise refusal(f"a {type(images).__name__}", shape)
    if images.ndim != 4 or images.shape[1:] != shape or not len(images):
        raise refusal(f"an array of shape {images.shape}", shape)
    if not np.issubdtype(images.dtype, np.integer):
        raise refusal(f"values of type {images.dtype}", shape)
    if images.min() < 0 or images.max() > 255:
        raise refusal(f"values from {images.min()} to {images.max()}", shape)
    return images.astype(np.uint8)


def refusal(found: str, shape: tuple[int, ...]) -> MlflowException:
    """The error for an input that is not images of this shape."""
    sides = ", ".join(map(str, shape))
    expected = f"whole numbers from 0 to 255 of shape (N, {sides}): images, height, width, RGB"
    return MlflowException(f"expected {expected}; this is {found}", INVALID_PARAMETER_VALUE)


set_model(ImageClassifier())
