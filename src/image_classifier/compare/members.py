"""The members of a group of trainings: seeds, or trials of a search, each a DVC experiment."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from image_classifier.compare.sources import ComparedRun, read_run
from image_classifier.project.definition import Inputs, Project
from image_classifier.project.hashing import is_code, path_md5
from image_classifier.project.keys import state_key, training_key
from image_classifier.project.recipes import as_options
from image_classifier.system.errors import UserError
from image_classifier.system.git import dvc_experiments


def run_once(project: Project, group: str, member: str, settings: Mapping[str, Any]) -> ComparedRun:
    """The DVC experiment GROUP-MEMBER with some of the project's settings changed, run if there is none yet.

    A FailedError if the experiment fails, a UserError if it exists with other settings: the name was used before.
    """
    name = f"{group}-{member}"
    if name in dvc_experiments():
        print(f"{name} exists", flush=True)
    else:
        print(f"running {name}", flush=True)
        command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *as_options(settings, project)]
        if subprocess.run(command).returncode or name not in dvc_experiments():
            raise FailedError(f"{name} failed; correct the reason above, then start the same command again")
    run, tracked = read_run(name, project.params), project.tracked
    asked = tracked | {setting: value for setting, value in settings.items() if setting in tracked}
    if run.state != state_key(asked, run.model_md5 or ""):
        raise UserError(f"{name} has other settings than those asked for now: give another --name")
    return run


def group_name(project: Project, varied: Mapping[str, str]) -> str:
    """A name that changes with the settings, the code, the pictures and the values of the `varied` settings."""
    data, inputs = project.params.data, project.inputs("train").files.items()
    files = {path: md5 for path, md5 in inputs if is_code(path)}  # data and rates may not exist yet
    if data.dataset == "folder":  # other data sets follow from the settings
        files |= {data.folder: path_md5(Path(data.folder))}
    key = training_key(Inputs({**project.tracked, **varied}, files))
    return f"{project.params.data.dataset}-{project.params.train.epochs}ep-{key[:6]}"


class FailedError(UserError):
    """A member of a group that did not finish."""
