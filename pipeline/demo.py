"""`make demo`: the whole pipeline on embedded data, in a project folder of its own, `build/demo`.

The folder is a copy of this project with the settings of `recipes/digits.yaml`, so nothing here changes. A second demo
uses the results of the first one. The runs go to this project's MLflow store.
"""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from image_classifier.project import locations
from image_classifier.project.params import load_params, read_settings
from image_classifier.project.recipes import overlay
from image_classifier.project.store_location import tracking_uri
from image_classifier.system.errors import UserError
from pipeline.stage import main

RECIPE = Path("recipes") / "digits.yaml"


def run() -> None:
    """Run all stages and print the result; a UserError if one fails, after its own message."""
    prepare_project(locations.DEMO, RECIPE)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # stages run with this Python
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "MLFLOW_TRACKING_URI": tracking_uri(), "PATH": path}
    for command in (["dvc", "repro"], ["pipeline.sync"]):
        if subprocess.run([sys.executable, "-m", *command], cwd=locations.DEMO, env=environment).returncode:
            raise UserError(
                f"the demo stopped at `python -m {' '.join(command)}` in {locations.DEMO}; the reason is above"
            )
    accuracy = json.loads((locations.DEMO / locations.TEST_METRICS).read_text(encoding="utf-8"))["accuracy"]
    print(f"""
Test accuracy  {accuracy:.2%} on handwritten digits
Report         {locations.DEMO / locations.GRADCAM_PAGE} (opens in a browser)
All outputs    {locations.DEMO / locations.REPORTS}/

Continue with  make ui                             the run in MLflow
               make predict IMAGES=docs/digit.png  the class of a picture that it was not trained on
               make app                            a page to try the network on""")


def prepare_project(folder: Path, recipe: Path) -> None:
    """Make `folder` a DVC project with this project's code, and with its settings changed by `recipe` and checked."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".dvc" / "config").exists():
        subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--force", "--quiet"], cwd=folder, check=True)
    for code in ("pipeline", "src"):
        with suppress(FileNotFoundError):
            shutil.rmtree(folder / code)
        shutil.copytree(code, folder / code, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / locations.WEIGHTS).mkdir(exist_ok=True)  # a dependency of stage download, used or not
    shutil.copy(locations.WEIGHTS / ".gitignore", folder / locations.WEIGHTS)  # DVC warns of an empty folder
    for file in ("dvc.yaml", ".dvcignore"):
        shutil.copy(file, folder)
    overlay(locations.PARAMS, read_settings(recipe), folder / locations.PARAMS)
    pictures = load_params(folder / locations.PARAMS).data.folder  # a dependency of stage download, used or not
    if not (folder / pictures).exists():  # data.folder may name an existing folder elsewhere
        (folder / pictures).mkdir(parents=True)
        (folder / pictures / ".gitignore").touch()  # DVC warns of an empty folder


if __name__ == "__main__":
    main(run, __doc__)
