"""Recipes: settings that are laid over those of params.yaml, in a file or as options of DVC."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from image_classifier.project import locations
from image_classifier.project.definition import Project
from image_classifier.project.params import read_settings
from image_classifier.project.settings import flat, names_other_network
from image_classifier.system.errors import UserError


def overlay(params: Path, changes: dict[str, dict[str, Any]], destination: Path) -> None:
    """Write `params` to `destination` with some settings changed; comments and other settings stay."""
    content = read_with_comments(params)
    for section, settings in changes.items():
        if names_other_network(content[section], settings):
            content[section].clear()
        content[section].update(settings)
    YAML().dump(content, destination)


def read_with_comments(params: Path) -> CommentedMap:
    """A params file, unchecked, that can be written again with its comments."""
    content: CommentedMap = YAML().load(params)
    return content


def comment_of(section: CommentedMap, name: str) -> str | None:
    """The comment behind a setting, on its line; None if there is none."""
    tokens = section.ca.items.get(name)
    return tokens[2].value.splitlines()[0].lstrip("# ") if tokens and tokens[2] else None


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
    changes += [
        f"{'' if name in before else '+'}{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in settings.items()
    ]
    return [word for change in changes for word in ("--set-param", change)]
