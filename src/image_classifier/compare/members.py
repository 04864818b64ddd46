"""The members of a group of trainings: seeds, or trials of a search, each a DVC experiment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from image_classifier.compare.experiments import FailedError, run_experiments
from image_classifier.compare.sources import ComparedRun, read_run
from image_classifier.project.definition import Inputs, Project
from image_classifier.project.hashing import is_code, path_md5
from image_classifier.project.keys import state_key, training_key
from image_classifier.project.recipes import as_options
from image_classifier.system.errors import UserError
from image_classifier.system.git import dvc_experiments


def run_members(
    project: Project, group: str, members: Mapping[str, Mapping[str, Any]], jobs: int
) -> dict[str, ComparedRun | FailedError]:
    """The DVC experiments GROUP-MEMBER, each with some of the project's settings changed, run if there is none yet.

    `jobs` of them run at a time. An experiment that fails stops no other: its error takes the place of its results.
    A UserError if one exists with other settings: the name was used before.
    """
    names = {f"{group}-{member}": settings for member, settings in members.items()}
    known = dvc_experiments()
    for name in names:
        if name in known:
            print(f"{name} exists", flush=True)
    missing = {name: as_options(settings, project) for name, settings in names.items() if name not in known}
    failed = run_experiments(missing, jobs)
    results = {name: failed.get(name) or _read(project, name, settings) for name, settings in names.items()}
    return dict(zip(members, results.values(), strict=True))


def _read(project: Project, name: str, settings: Mapping[str, Any]) -> ComparedRun:
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
