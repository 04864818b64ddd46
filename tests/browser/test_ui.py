"""The MLflow UI as people use it: started by its command, opened in Chromium at the address that it prints."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from support.browser import ARGUMENTS, CHROMIUM, needs_chromium
from support.finished_pipeline import ran
from support.project import PROJECT
from support.servers import free_port, wait_for_server

from image_classifier.project.definition import read_project
from image_classifier.tracking.publication import publish

pytestmark = needs_chromium


def test_the_ui_opens_at_the_runs_and_shows_their_pictures(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publication = publish(read_project(), ran())
    assert publication.run_name
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    port = free_port()
    log = project / "ui.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "pipeline.ui"]
        environment = {**os.environ, "MLFLOW_PORT": str(port)}
        ui = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_for_server(f"http://127.0.0.1:{port}/health", ui, log)
        printed = re.search(rf"http://127\.0\.0\.1:{port}/\S+", log.read_text())
        assert printed
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page()
            page.set_default_timeout(30_000)
            page.goto(printed[0])
            expect(page.get_by_text("evaluate/accuracy", exact=True).first).to_be_visible()
            page.get_by_role("link", name=publication.run_name).click()
            page.get_by_role("tab", name="Artifacts").click()
            page.get_by_text("evaluate", exact=True).click()
            page.get_by_text("confusion_matrix.png", exact=True).click()
            picture = page.get_by_role("img", name="evaluate/confusion_matrix.png")
            expect(picture).to_be_visible(timeout=30_000)
            assert picture.evaluate("image => image.naturalWidth") == 32
            browser.close()
    finally:
        os.killpg(ui.pid, signal.SIGKILL)
        ui.wait()
