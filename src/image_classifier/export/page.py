"""A page that classifies pictures in the browser, as a folder that any static server can show."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from image_classifier.data import Images
from image_classifier.plots.style import PALETTE
from image_classifier.system.files import write_bytes, write_text

TEMPLATES = Path(__file__).parent / "templates"
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # of onnxruntime-web


def write_page(
    folder: Path, model: bytes, facts: Mapping[str, Any], examples: Images, names: Sequence[str], runtime: Path
) -> None:
    """Write page, model and runtime.

    `facts` has `dataset`, `classes`, `weights_md5`, `license`, and `unsure_up_to`, which may be None. `examples` are
    images uint8 (N, image_px, image_px, 3), and `names` their classes. The folder `runtime` has the files RUNTIME.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [{"url": _data_url(image), "name": name} for image, name in zip(examples, names, strict=True)]
    page = environment.get_template("page.html.j2").render(
        facts=facts, examples=shown, image_px=examples.shape[1], palette=PALETTE
    )
    write_text(folder / "index.html", page)
    write_bytes(folder / "page.js", (TEMPLATES / "page.js").read_bytes())
    write_bytes(folder / "model.onnx", model)
    for name in RUNTIME:
        write_bytes(folder / name, (runtime / name).read_bytes())


def _data_url(image: Images) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
