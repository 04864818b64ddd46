"""`python -m pipeline.recipe NAME`: run all stages with the settings in recipes/NAME.yaml, as a DVC experiment.

It runs in a copy of the project, so params.yaml stays as it is. A killed one continues from its last checkpoint: start
the same command again.
"""

import json
import os
import sys
from argparse import ArgumentParser
from pathlib import Path

from cifar_resnet.errors import UserError
from cifar_resnet.params import read_settings
from pipeline.stage import main


def run(name: str) -> None:
    """Become `dvc exp run` with the settings of a recipe.

    Raises:
        UserError: there is no such recipe.
    """
    recipe = Path("recipes") / f"{name}.yaml"
    if not recipe.exists():
        known = ", ".join(sorted(path.stem for path in recipe.parent.glob("*.yaml")))
        raise UserError(f"there is no recipe {name}; allowed: {known}")
    settings = [(section, *item) for section, values in read_settings(recipe).items() for item in values.items()]
    changes = [f"{section}.{key}={json.dumps(value)}" for section, key, value in settings]
    print(f"{recipe}: {' '.join(changes)}", flush=True)
    options = [word for change in changes for word in ("--set-param", change)]
    os.execv(sys.executable, [sys.executable, "-m", "dvc", "exp", "run", "--temp", *options])


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.recipe", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="of a file in recipes/, without .yaml")
    name = parser.parse_args().name
    main(lambda: run(name))
