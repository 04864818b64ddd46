"""A trained model as an ONNX file: raw uint8 images (N, image_px, image_px, 3) to probabilities (N, classes).

Normalisation and softmax are in the graph, so nobody has to repeat them. The graph refuses images of another size. Its
metadata name the classes, as JSON, in the order of the probabilities. Only this module imports ONNX's libraries.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from image_classifier.data import Images
from image_classifier.model.inference import batch_size
from image_classifier.model.model_file import TrainedModel
from image_classifier.model.network import Classifier
from image_classifier.system.errors import UserError

try:
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401  # torch.onnx needs it
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process
except ModuleNotFoundError as error:
    raise UserError(
        f"{error.name} is not installed: "
        "`.venv/bin/python -m pip install -c requirements-dev.txt onnx onnxruntime onnxscript`"
    ) from None

INPUT, OUTPUT = "images", "probabilities"
CALIBRATION_BATCH = 64  # images; the calibration keeps the activations of all layers of a batch


def to_onnx(model: TrainedModel, facts: Mapping[str, str]) -> bytes:
    """The ONNX file of a model, with `facts` as its metadata; the same model gives the same bytes.

    A UserError if PyTorch cannot export the network.
    """
    images = torch.zeros(2, model.image_px, model.image_px, 3, dtype=torch.uint8)  # with 1, N would be fixed
    shapes = ({0: torch.export.Dim("N", min=1)},)
    try:
        with _quiet():
            traced = torch.export.export(Classifier(model.net).eval(), (images,), dynamic_shapes=shapes)
            program = torch.onnx.export(traced, input_names=[INPUT], output_names=[OUTPUT], verbose=False)
    except Exception as error:  # an operation may fail in any of its parts
        reason: BaseException = error
        while reason.__cause__:
            reason = reason.__cause__
        first = next((line.strip() for line in str(reason).splitlines() if line.strip()), type(reason).__name__)
        raise UserError(
            f"the network {model.settings.network} cannot be exported as ONNX ({first[:160]}): replace that operation "
            f"in src/image_classifier/networks/{model.settings.network}.py, or serve the model with MLflow"
        ) from None
    assert program is not None
    content = program.model_proto
    onnx.helper.set_model_props(content, dict(facts))
    return bytes(content.SerializeToString(deterministic=True))


def to_int8(exported: bytes, training_images: Images) -> bytes:
    """An exported model with weights and activations in 8 bits.

    The range of each activation is the one that these images, uint8 (N, image_px, image_px, 3), reach. Source:
    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    batches = _Batches(training_images)
    with tempfile.TemporaryDirectory() as folder:
        prepared, result = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        with _quiet():
            quant_pre_process(onnx.load_from_string(exported), prepared)
            # An image took 5.9 ms so, 12.3 ms with all operators in signed 8 bits, and 22.9 ms in float32 (width 64,
            # one AMD core with AVX2). AVX2 adds two products in 16 bits, where weights of 8 bits overflow: they get 7.
            quantization.quantize_static(
                prepared,
                result,
                batches,
                op_types_to_quantize=["Conv", "Gemm", "MatMul"],
                activation_type=quantization.QuantType.QUInt8,
                per_channel=True,
                reduce_range=True,
            )
        return result.read_bytes()


class OnnxModel:
    """An ONNX file, run by ONNX Runtime on the CPU."""

    def __init__(self, content: bytes, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def probabilities(self, images: Images) -> NDArray[np.float64]:
        """Probabilities (N, classes) for images uint8 (N, image_px, image_px, 3)."""
        size = batch_size(images.shape[1])
        starts = tqdm(range(0, len(images), size), desc="ONNX", leave=False, delay=2, disable=None)
        batches = (np.ascontiguousarray(images[start : start + size]) for start in starts)
        return np.concatenate([self.session.run([OUTPUT], {INPUT: batch})[0] for batch in batches]).astype(np.float64)


class _Batches(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: Images) -> None:
        starts = range(0, len(images), CALIBRATION_BATCH)
        bar = tqdm(starts, desc="calibrate", leave=False, delay=2, disable=None)
        self.batches: Iterator[Images] = (images[start : start + CALIBRATION_BATCH] for start in bar)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: np.ascontiguousarray(batch)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the libraries print of their own insides, such as graphs; errors are raised."""
    unread = StringIO()
    logging.disable()
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(unread), redirect_stderr(unread):
            yield
    finally:
        logging.disable(logging.NOTSET)
