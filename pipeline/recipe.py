"""`python -m pipeline.recipe NAME`: run all stages with the settings in recipes/NAME.yaml, as a DVC experiment.

It runs in a copy of the project, so params.yaml stays as it is. If it is stopped, start the same command again: the
training continues from its last checkpoint.
"""

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from image_classifier.project import locations
from image_classifier.project.definition import Project, read_project
from image_classifier.project.params import read_settings
from image_classifier.project.settings import flat
from image_classifier.system.errors import UserError
from pipeline.stage import main


def read_recipe(name: str) -> dict[str, dict[str, Any]]:
    """The settings in recipes/NAME.yaml, by section; a UserError if there is none."""
    recipe = Path("recipes") / f"{name}.yaml"
    if not recipe.exists():
        known = ", ".join(sorted(path.stem for path in recipe.parent.glob("*.yaml")))
        raise UserError(f"there is no recipe {name}; allowed: {known}")
    settings: dict[str, dict[str, Any]] = read_settings(recipe)
    if not isinstance(settings, dict) or not all(isinstance(section, dict) for section in settings.values()):
        raise UserError(
            f"{recipe} must hold sections as in {locations.PARAMS}, such as `train:` and below it `epochs: 12`"
        )
    return settings


def as_options(settings: Mapping[str, Any], project: Project) -> list[str]:
    """Settings by dotted name as options of `dvc exp run`, which turn params.yaml into the settings of `project`."""
    before, after = flat(read_settings(locations.PARAMS)), flat(project.settings)
    changes = [f"~{name}" for name in before if name not in after]  # of another network
    changes += [f"{'' if name in before else '+'}{name}={json.dumps(value, ensure_ascii=False)}"
                for name, value in settings.items()]  # fmt: skip
    return [word for change in changes for word in ("--set-param", change)]


def run(name: str) -> None:
    """Check the settings of a recipe, and replace this process by `dvc exp run` with them."""
    recipe = read_recipe(name)
    options = as_options(flat(recipe), read_project(recipe))
    print(f"{name}: {' '.join(options[1::2])}", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "dvc", "exp", "run", "--temp", *options])


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.recipe", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="name of a file in recipes/, without .yaml")
    name = parser.parse_args().name
    main(lambda: run(name))
