"""`python -m pipeline.seeds N`: train the current settings with N seeds, and print their mean accuracy.

Each seed is a DVC experiment, GROUP-seed0, GROUP-seed1 and so on, in a copy of the project. If one fails, the others go
on. To continue a stopped command, start it again: finished seeds are not run again, and a training continues from its
checkpoint. In MLflow the runs are below one parent run. `lr_find.seed` stays as it is, so all seeds train at the same
learning rates.
"""

import subprocess
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from image_classifier.compare.comparison import SEED, describe_seeds, seed_sample, seed_table
from image_classifier.compare.sources import ComparedRun, read_run
from image_classifier.project.definition import Inputs, Project, read_project
from image_classifier.project.hashing import is_code, path_md5
from image_classifier.project.keys import state_key, training_key
from image_classifier.project.settings import flat
from image_classifier.system.errors import UserError
from image_classifier.system.git import dvc_experiments
from pipeline.compare import as_text
from pipeline.recipe import as_options, read_recipe
from pipeline.stage import main


class FailedError(UserError):
    """A member of a group that did not finish."""


def run_seeds(count: int, name: str | None, recipe_name: str | None) -> None:
    """Run the seeds that are missing, and print all results; a UserError at the end if a seed fails.

    A mean without the seeds that failed would be too good, so MLflow gets a group only when all have finished.
    """
    recipe = read_recipe(recipe_name) if recipe_name else {}
    project = read_project(recipe)
    group = name or group_name(project, {SEED: "any"})
    runs: dict[int, ComparedRun] = {}
    failed = []
    for seed in range(count):
        try:
            runs[seed] = run_once(project, group, f"seed{seed}", {**flat(recipe), SEED: seed})
        except FailedError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed.append(seed)
    if runs:
        print(f"\n{as_text(seed_table({group: runs}))}\n\n{describe_seeds(group, runs)}", flush=True)
    if failed:
        raise UserError(
            f"{len(failed)} of {count} seeds failed: {', '.join(map(str, failed))}; correct the reasons above, then "
            f"start the same command again: MLflow gets the group {group} when all have finished"
        )
    sample = seed_sample(runs)
    figures = {"seeds/count": float(count), "seeds/mean": sample.mean}
    if count > 1:  # one seed has no deviation
        figures |= {"seeds/standard_deviation": sample.standard_deviation}
        figures |= {"seeds/interval_low": sample.interval.low, "seeds/interval_high": sample.interval.high}
    from image_classifier.tracking.groups import publish_group  # 2 s

    print(publish_group(project.params, group, {run.state for run in runs.values()}, figures))


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


def one_or_more(text: str) -> int:
    """The number of members of a group; argparse shows the errors."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text}; allowed: 1 or more")
    return int(text)


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.seeds", description=__doc__)
    parser.add_argument("count", type=one_or_more, metavar="N", help="number of seeds: 0 to N - 1 are trained")
    parser.add_argument("--name", help="name of the group (default: made from data set, epochs, settings and code)")
    parser.add_argument("--recipe", metavar="NAME", help="use the settings in recipes/NAME.yaml")
    options = parser.parse_args()
    main(lambda: run_seeds(options.count, options.name, options.recipe))
