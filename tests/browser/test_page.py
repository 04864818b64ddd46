"""The page without a server, as people use it: in Chromium, with pictures that are really uploaded."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from sklearn.datasets import load_sample_images
from support.browser import needs_chromium
from support.project import PROJECT, copy_project
from support.servers import free_port, wait_for_server

from image_classifier.export.onnx_file import to_onnx
from image_classifier.export.page import RUNTIME
from image_classifier.model.model_file import load_model
from image_classifier.project import locations
from image_classifier.project.hashing import file_md5
from image_classifier.project.params import load_params
from image_classifier.serving.prediction import load_predictor
from image_classifier.sources.image_files import read_image
from image_classifier.system.errors import UserError
from pipeline import page as command

pytestmark = [
    needs_chromium,
    pytest.mark.skipif(
        not (PROJECT / locations.WEB_RUNTIME / RUNTIME[0]).exists(), reason="`make page` has not got ONNX Runtime Web"
    ),
]
THRESHOLD = 0.5


@pytest.fixture
def exported(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose model was exported, as the working directory; returns the folder of the export."""
    copy_project(evaluated, tmp_path, monkeypatch)
    locations.WEB_RUNTIME.parent.mkdir()
    locations.WEB_RUNTIME.symlink_to(PROJECT / locations.WEB_RUNTIME)
    folder, model = locations.EXPORT / "float32", load_model(locations.MODEL)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(to_onnx(model, {}))
    facts = {
        "dataset": model.dataset,
        "classes": json.dumps(model.classes),
        "weights_md5": file_md5(locations.MODEL),
        "unsure_up_to": str(THRESHOLD),
        "license": "</script><script>alert(1)</script>",
    }
    (folder / "proof.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def address(exported: Path, tmp_path: Path) -> Iterator[str]:
    """Where a static server shows the page."""
    command.run()
    port, log = free_port(), tmp_path / "server.log"
    with log.open("wb") as output:
        served = ["http.server", "-b", "127.0.0.1", "-d", "export/page", str(port)]
        server = subprocess.Popen([sys.executable, "-m", *served], stdout=output, stderr=output)
    wait_for_server(f"http://127.0.0.1:{port}", server, log)
    yield f"http://127.0.0.1:{port}/"
    server.terminate()
    server.wait()


def write_pictures(folder: Path) -> list[Path]:
    """100 pictures: parts of photographs of all sizes, most with a note how to turn them, some partly transparent."""
    folder.mkdir()
    random, photos = np.random.default_rng(0), load_sample_images().images
    for number in range(100):
        width, height = random.integers(5, 420, 2)
        picture = Image.fromarray(photos[number % 2][:height, :width])
        turned = Image.Exif()
        turned[0x0112] = 1 + number % 8
        if number % 10 == 0:
            picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        picture.save(folder / f"{number:03}.png", exif=turned)
    return sorted(folder.iterdir())


def test_100_uploaded_pictures_get_the_answers_of_predict_and_go_nowhere(
    address: str, browser: Browser, tmp_path: Path
) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    predictor = load_predictor(load_params(locations.PARAMS).compute)
    expected = predictor.probabilities(np.stack([read_image(path, predictor.model.image_px) for path in pictures]))
    page = browser.new_page()
    requests: list[str] = []
    troubles: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: troubles.append(dialog.message))
    page.goto(address)
    table, answer = page.locator("#table"), page.locator("#answer")
    for path, wanted in zip(pictures, expected, strict=True):
        table.evaluate("table => delete table.dataset.probabilities")
        page.set_input_files("#file", path)
        page.wait_for_selector("#table[data-probabilities]")
        given = json.loads(table.get_attribute("data-probabilities") or "")
        assert given == pytest.approx(wanted, abs=1e-5), path.name
        best = predictor.model.classes[int(np.argmax(given))]
        expect(answer).to_have_text(f"Unsure. The best guess: {best}" if max(given) <= THRESHOLD else best)
    assert all(url.startswith((address, "data:", "blob:")) for url in requests)
    assert troubles == []
    page.close()


def test_a_file_that_is_no_picture_is_named_so_and_examples_still_work(
    address: str, browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "note.png").write_text("no picture")
    page = browser.new_page()
    page.goto(address)
    page.set_input_files("#file", tmp_path / "note.png")
    expect(page.locator("#answer")).to_have_text(
        "This file is no picture that this browser can read. Choose a JPEG or PNG file."
    )
    page.locator("#examples button").first.click()
    expect(page.locator("#table tr")).to_have_count(5)
    page.close()


def test_an_export_of_other_weights_or_none_is_refused(exported: Path) -> None:
    locations.MODEL.write_bytes(locations.MODEL.read_bytes() + b" ")
    with pytest.raises(UserError, match=r"float32 is of other weights: run `python -m pipeline.export`"):
        command.run()
    (exported / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"float32 has no export: run `python -m pipeline.export`"):
        command.run()
