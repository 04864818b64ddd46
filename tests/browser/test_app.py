"""The page to try the model, as people use it: in Chromium, with a photo that is really uploaded."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image
from playwright.sync_api import Route, expect, sync_playwright
from support.browser import ARGUMENTS, CHROMIUM, needs_chromium
from support.project import PROJECT
from support.servers import free_port, wait_for_server

from image_classifier.project import locations

GRADIO = PROJECT / "build" / "app"
pytestmark = [
    needs_chromium,
    pytest.mark.skipif(not (GRADIO / "gradio").exists(), reason="`make app` has not installed Gradio"),
]


def test_a_photo_gets_its_name_and_a_map_from_the_demos_model_and_goes_nowhere(evaluated: Path, tmp_path: Path) -> None:
    demo = tmp_path / locations.DEMO
    shutil.copytree(evaluated, demo)
    (tmp_path / "build" / "app").symlink_to(GRADIO)
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((demo / name).read_bytes())
    probabilities = pd.read_csv(demo / locations.PREDICTIONS).filter(like="p_")
    ranked = -np.sort(-probabilities.to_numpy())[:, :6]
    clear = int(np.diff(-ranked).min(axis=1).argmax())  # no two of its probabilities are almost equal
    images = np.load(demo / locations.DATA / "digits" / "test_images.npy")
    Image.fromarray(images[clear]).resize((480, 480), Image.Resampling.NEAREST).save(tmp_path / "photo.bmp")
    (tmp_path / "note.png").write_text("no picture")
    wrong = int(pd.read_csv(demo / locations.MISCLASSIFIED)["index"][0])
    example, mistake = ([*np.argsort(-probabilities.to_numpy()[n])[:5].astype(str)] for n in (clear, wrong))
    assert example != mistake

    port, log = free_port(), tmp_path / "app.log"
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    environment = os.environ | {
        "PYTHONPATH": str(PROJECT),
        "GRADIO_SERVER_PORT": str(port),
        "TMPDIR": str(uploads),
    }
    with log.open("wb") as output:
        app = subprocess.Popen(
            [sys.executable, "-m", "pipeline.app"], cwd=tmp_path, env=environment, stdout=output, stderr=output
        )
    asked_elsewhere = []

    def stay_here(route: Route) -> None:
        if re.match(rf"http://127\.0\.0\.1:{port}/|data:|blob:", route.request.url):
            route.continue_()
        else:
            asked_elsewhere.append(route.request.url)
            route.abort()

    try:
        wait_for_server(f"http://127.0.0.1:{port}/", app, log)
        assert f"model: {locations.DEMO / locations.MODEL}" in log.read_text()
        assert {c.laddr for c in psutil.Process(app.pid).net_connections() if c.status == psutil.CONN_LISTEN} == {
            ("127.0.0.1", port)
        }
        with sync_playwright() as playwright:
            page = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS).new_page(color_scheme="dark")
            page.set_default_timeout(60_000)
            expect.set_options(timeout=60_000)
            page.route("**/*", stay_here)
            page.goto(f"http://127.0.0.1:{port}/")
            names, heat = page.locator(".bars th"), page.locator("#heat img")
            page.locator("input[type=file]").first.set_input_files(tmp_path / "photo.bmp")
            expect(names).to_have_text(example)
            expect(heat).to_be_visible()
            bar = Image.open(io.BytesIO(page.locator(".bars meter").last.screenshot())).convert("L")
            assert np.asarray(bar)[:, -20:].max() < 128, "the empty part of a bar is dark in dark mode"
            by_layercam = heat.get_attribute("src")
            page.get_by_label("Method").click()
            page.get_by_role("option", name="hirescam").click()
            expect(heat).not_to_have_attribute("src", by_layercam)

            page.get_by_text(f" taken for {mistake[0]}").first.click()
            expect(names).to_have_text(mistake)
            shown = page.locator(".bars meter").first.get_attribute("value")
            assert float(str(shown)) == pytest.approx(probabilities.loc[wrong].max(), abs=1e-5)

            page.get_by_label("Remove Image").click()
            page.locator("input[type=file]").first.set_input_files(tmp_path / "note.png")
            expect(page.get_by_text("The file is no image that can be read here")).to_be_visible()
        assert asked_elsewhere == []
        assert [*uploads.rglob("photo.bmp")]
        app.send_signal(signal.SIGINT)
        assert app.wait(timeout=30) == 0
        assert not [path for path in uploads.rglob("*") if path.is_file()]
    finally:
        app.kill()
        app.wait()
