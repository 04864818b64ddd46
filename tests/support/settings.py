"""Other settings than the project's own."""

from pathlib import Path
from typing import Any

from support.project import PROJECT

from image_classifier.project import locations
from image_classifier.project.recipes import overlay

PARAMS = PROJECT / locations.PARAMS


def change(**sections: dict[str, object]) -> None:
    """Change settings in the working directory's params.yaml."""
    overlay(locations.PARAMS, sections, locations.PARAMS)


def changed(tmp_path: Path, **sections: dict[str, Any]) -> Path:
    overlay(PARAMS, sections, tmp_path / "params.yaml")
    return tmp_path / "params.yaml"
