"""`params.yaml` and `dvc.yaml` as they were when this process read them, once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_resnet import layout
from cifar_resnet.dvc_files import DEFINITION, Inputs, Stage, parse_stages, select
from cifar_resnet.errors import UserError
from cifar_resnet.identity import path_md5
from cifar_resnet.params import Params, parse_params, read_settings


@dataclass(frozen=True)
class Project:
    """The settings, checked (`params`) and as the file has them (`settings`), and the stages."""

    params: Params
    settings: Mapping[str, Any]
    stages: Mapping[str, Stage]

    @property
    def tracked(self) -> dict[str, Any]:
        """Every setting that a stage depends on, by dotted name: the settings that shape results."""
        return select(self.settings, [name for stage in self.stages.values() for name in stage.params])

    def settings_of(self, stage: str) -> dict[str, Any]:
        """The settings that a stage depends on, by dotted name."""
        return select(self.settings, self.stages[stage].params)

    def inputs(self, stage: str) -> Inputs:
        """What a stage depends on, with its files as they are now."""
        files = {path: path_md5(Path(path)) for path in self.stages[stage].deps if Path(path).exists()}
        return Inputs(self.settings_of(stage), files)


def read_project() -> Project:
    """Read and check `params.yaml` and `dvc.yaml` in the working directory.

    Raises:
        UserError: one is missing, is no YAML, or breaks a rule; one line per broken rule.
    """
    settings = read_settings(layout.PARAMS)
    params = parse_params(settings, name=layout.PARAMS.name)
    try:
        return Project(params, settings, parse_stages(DEFINITION.read_text(encoding="utf-8"), settings))
    except FileNotFoundError:
        raise UserError(f"{DEFINITION} is missing: restore it with `git checkout {DEFINITION}`") from None
