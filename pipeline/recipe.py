"""`python -m pipeline.recipe NAME`: run all stages with the settings in recipes/NAME.yaml, as a DVC experiment.

It runs in a copy of the project, so params.yaml stays as it is. If it is stopped, start the same command again: the
training continues from its last checkpoint.
"""

import os
import sys
from argparse import ArgumentParser
from pathlib import Path

from image_classifier.project.definition import read_project
from image_classifier.project.recipes import as_options, read_recipe
from image_classifier.project.settings import flat
from pipeline.stage import main


def run(name: str, folder: Path | None) -> None:
    """Check the settings of a recipe, and replace this process by `dvc exp run` with them.

    A `folder` of pictures is named by its whole path, since the copy of the project has no pictures.
    """
    recipe = read_recipe(name)
    if folder:
        recipe["data"] = {**recipe.get("data", {}), "dataset": "folder", "folder": str(folder.expanduser().absolute())}
    options = as_options(flat(recipe), read_project(recipe))
    print(f"{name}: {' '.join(options[1::2])}", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "dvc", "exp", "run", "--temp", *options])


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.recipe", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="name of a file in recipes/, without .yaml")
    parser.add_argument("--folder", type=Path, metavar="PATH", help="your own pictures, one folder per class")
    options = parser.parse_args()
    main(lambda: run(options.name, options.folder))
