"""The model as MLflow serves it. Every model keeps a copy of this file, which needs no other code of this project.

MLflow passes the request on unchanged. Otherwise MLflow would convert numbers to uint8, and silently turn 0.5 into 0
and "7" into 7: users who send images scaled to 0..1 must get an error. It would also convert texts to an array, in
which each text takes as much memory as the longest.
"""

import base64
import io
import json
import os
import sys
import time
from datetime import UTC, datetime
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any

import mlflow.pytorch
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model, set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

LARGEST_BATCH = 256  # images that the network gets at once; all images of a request took 2.7 GB
BATCH_PIXELS = LARGEST_BATCH * 32**2  # so that large images take no more memory
MOST_IMAGES = 1000  # in a request, so that its memory is bounded


class ServedModel(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        network = context.artifacts["network"]
        logged = Model.load(network)
        self.network = mlflow.pytorch.load_model(network)
        self.image_shape = logged.signature.inputs.inputs[0].shape[1:]
        metadata = logged.metadata or {}
        self.classes, self.unsure_up_to = metadata["classes"], metadata.get("unsure_up_to")
        self.decoding = ModuleType("image_decoding")
        SourceFileLoader("image_decoding", context.artifacts["image_decoding"]).exec_module(self.decoding)

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray | list[list[dict[str, Any]]]:
        """Classify images. A list of image files in base64 gives classes with probabilities, the best first.

        If a threshold is known, the best class also says whether it is `unsure`, so only a guess.

        An array (N, H, W, 3) of whole numbers from 0 to 255, or lists of that shape, give probabilities
        (N, num_classes) float32.

        A Refusal of any other input or too many images: a server answers 400 or 413 with the reason.
        """
        if isinstance(model_input, list | np.ndarray) and len(model_input) > MOST_IMAGES:
            raise Refusal(f"{len(model_input)} images in one request; send at most {MOST_IMAGES} at once", status=413)
        if isinstance(model_input, list) and any(isinstance(item, str) for item in model_input):
            # A server answers 504 after these seconds, but would go on decoding, for hours if files are large images.
            ends = time.monotonic() + float(os.environ.get("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "inf"))
            images = np.stack([self._decode(item, place, ends) for place, item in enumerate(model_input, 1)])
            return [self._ranked(row) for row in self._probabilities(images)]
        return self._probabilities(self._as_uint8(model_input))

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        size = min(LARGEST_BATCH, max(1, BATCH_PIXELS // images.shape[1] ** 2))
        with torch.inference_mode():
            answers = [self.network(batch) for batch in torch.from_numpy(images).split(size)]
        probabilities: np.ndarray = torch.cat(answers).numpy()
        if path := os.environ.get("CLASSIFIER_LOG"):
            self._log(path, images, probabilities)
        return probabilities

    def _log(self, path: str, images: np.ndarray, probabilities: np.ndarray) -> None:
        """Add a line of JSON about a request to the file `path`: no picture, just what `pipeline.drift` compares."""
        record = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "class": [self.classes[number] for number in probabilities.argmax(axis=1)],
            "confidence": probabilities.max(axis=1).tolist(),
            "brightness": [round(float(image.mean() / 255), 6) for image in images],
            "contrast": [round(float(image.std() / 255), 6) for image in images],
        }
        try:
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(file, f"{json.dumps(record)}\n".encode())  # in one piece, since MLflow may use several processes
            os.close(file)
        except OSError as error:  # the answer is worth more than the log
            print(f"CLASSIFIER_LOG={path}: {error.strerror}; this request is not logged", file=sys.stderr)

    def _ranked(self, probabilities: np.ndarray) -> list[dict[str, Any]]:
        best_first = np.argsort(-probabilities, kind="stable")
        ranked = [{"class": self.classes[n], "probability": round(float(probabilities[n]), 9)} for n in best_first]
        if self.unsure_up_to is not None:
            ranked[0]["unsure"] = bool(probabilities[best_first[0]] <= self.unsure_up_to)
        return ranked

    def _decode(self, item: object, place: int, ends: float) -> np.ndarray:
        """The image of a file in base64, with or without the start of a data URL; a Refusal after the time `ends`."""
        if time.monotonic() > ends:
            raise Refusal(f"no time was left for image {place}: send fewer or smaller images", status=413)
        if not isinstance(item, str):
            raise Refusal(
                f"input {place} is a {type(item).__name__} among texts: send image files as base64, or numbers"
            )
        content = item.split(",", 1)[-1] if item.startswith("data:") else item
        try:
            file = base64.b64decode("".join(content.split()), validate=True)
        except ValueError as error:
            raise Refusal(f"image {place} is no base64 ({error}): send a file's content, encoded") from None
        try:
            image: np.ndarray = self.decoding.decode_image(io.BytesIO(file), self.image_shape[0])
        except ValueError as error:
            raise Refusal(f"image {place} {error}") from None
        return image

    def _as_uint8(self, images: object) -> np.ndarray:
        """The images (N, H, W, 3) as uint8; a Refusal if they have another shape, type or range."""
        if not isinstance(images, list | np.ndarray):
            raise self._unexpected(f"a {type(images).__name__}")
        if not len(images):
            raise self._unexpected("an empty list")
        innermost = images
        while isinstance(innermost, list) and innermost:
            innermost = innermost[0]
        if isinstance(innermost, str | dict):
            raise self._unexpected(f"values of type {type(innermost).__name__}")
        try:
            array = np.asarray(images)
        except ValueError as error:  # lists of different lengths
            raise self._unexpected(str(error)) from None
        if array.ndim != 4 or array.shape[1:] != self.image_shape:
            raise self._unexpected(f"an array of shape {array.shape}")
        if not np.issubdtype(array.dtype, np.integer):
            raise self._unexpected(f"values of type {array.dtype}")
        # In a list with numbers, NumPy turns true and false into 1 and 0.
        if isinstance(images, list) and bool in map(type, np.array(images, dtype=object).flat):
            raise self._unexpected("true or false among numbers")
        if array.min() < 0 or array.max() > 255:
            raise self._unexpected(f"values from {array.min()} to {array.max()}")
        return array.astype(np.uint8)

    def _unexpected(self, found: str) -> "Refusal":
        sides = ", ".join(map(str, self.image_shape))
        numbers = f"whole numbers from 0 to 255 of shape (N, {sides}): images, height, width, RGB"
        return Refusal(
            f"expected a list of {self.decoding.FORMATS_IN_WORDS} files in base64, or {numbers}; this is {found}"
        )


class Refusal(MlflowException):
    """What is wrong with the input, in one line. MLflow's own error would start with the input, which may be 60 MB."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason, INVALID_PARAMETER_VALUE)
        self.reason, self.status = reason, status

    def get_http_status_code(self) -> int:
        return self.status

    def serialize_as_json(self) -> str:
        return json.dumps({"error_code": self.error_code, "message": self.reason})


set_model(ServedModel())
