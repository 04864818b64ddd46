"""`python -m pipeline.search N SETTING=RANGE ...`: try N combinations of settings, and print the best one.

Example: `python -m pipeline.search 20 train.lr_max=log:0.05..0.8 augment.cutout=0,4,8`.

A RANGE is LOW..HIGH, log:LOW..HIGH on a logarithmic scale, or choices A,B,C. Optuna proposes each trial from earlier
results; the best one has the highest validation accuracy. Trials are DVC experiments, GROUP-trial0 and so on, below one
run in MLflow. To continue a stopped search, start the same command again, with the same `--jobs`: finished trials are
not run again.
"""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from image_classifier.compare.members import group_name, run_members
from image_classifier.compare.sources import ComparedRun
from image_classifier.project.definition import Project
from image_classifier.project.params import parse_params, read_yaml
from image_classifier.system.errors import UserError
from image_classifier.system.tables import as_text
from pipeline.stage import JOBS, main, one_or_more


def run_search(project: Project, count: int, ranges: Mapping[str, str], name: str | None, jobs: int = 1) -> None:
    """Run the trials that are missing, and print all results; the others go on if one fails.

    A UserError if there are no held-out images, or if no trial finishes.
    """
    if not project.params.data.validation_images:
        raise UserError("data.validation_images is 0, so the test set would choose: set it above 0, such as 5000")
    space = read_space(project, ranges)
    import optuna

    group = name or group_name(project, ranges)
    # The same seed, results and number of jobs give the same proposals, so a search that was stopped proposes the same
    # trials again.
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    rows, states = [], set()
    for first in range(0, count, jobs):
        trials = {f"trial{number}": study.ask(space) for number in range(first, min(first + jobs, count))}
        proposed = {member: trial.params for member, trial in trials.items()}
        for member, found in run_members(project, group, proposed, jobs).items():
            row = [f"{group}-{member}", *map(str, proposed[member].values())]
            if isinstance(found, ComparedRun):
                accuracy = found.history[-1].held_out_accuracy
                study.tell(trials[member], accuracy)
                states.add(found.state)
                rows.append([*row, f"{accuracy:.2%}"])
            else:  # such as a rate at which a training diverges
                study.tell(trials[member], state=optuna.trial.TrialState.FAIL)
                rows.append([*row, "failed"])
    if not states:
        raise UserError("no trial finished; correct the reasons above, then start the same command again")
    best = rows[study.best_trial.number]
    print(f"\n{as_text([['trial', *space, 'validation accuracy'], *rows])}\n")
    print(f"{best[0]} is the best. Its validation accuracy is optimistic, since it chose the trial.")
    print(f"`dvc exp apply {best[0]}` copies its settings and results here.")
    from image_classifier.tracking.groups import publish_group  # 2 s

    shown = {"search/trials": float(count), "search/best_validation_accuracy": study.best_value}
    print(publish_group(project.params, group, states, shown))


def read_space(project: Project, ranges: Mapping[str, str]) -> dict[str, Any]:
    """The ranges as Optuna's distributions, by setting; a UserError if one is invalid, or Optuna is not installed."""
    try:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    except ModuleNotFoundError:
        raise UserError("Optuna is not installed: `.venv/bin/python -m pip install optuna`") from None
    space: dict[str, Any] = {}
    for setting, text in ranges.items():
        if setting not in project.tracked:
            raise UserError(f"{setting} is not a setting that changes results; allowed: {', '.join(project.tracked)}")
        is_log, (low, dots, high) = text.startswith("log:"), text.removeprefix("log:").partition("..")
        try:
            if not dots:
                space[setting] = CategoricalDistribution([read_yaml(choice, setting) for choice in text.split(",")])
            elif low.isdecimal() and high.isdecimal():
                space[setting] = IntDistribution(int(low), int(high), log=is_log)
            else:
                space[setting] = FloatDistribution(float(low), float(high), log=is_log)
        except ValueError as error:
            raise UserError(f"{setting}={text}: {error}; allowed: LOW..HIGH, log:LOW..HIGH, or A,B,C") from None
        for value in (space[setting].low, space[setting].high) if dots else space[setting].choices:
            require_allowed(project, setting, value)
    return space


def require_allowed(project: Project, setting: str, value: Any) -> None:
    """A UserError if no trial could have this value; a value that only conflicts with others is left to the trials."""
    section, key = setting.split(".")
    try:
        parse_params({**project.settings, section: {**project.settings[section], key: value}}, "a range")
    except UserError as error:
        if reasons := [line for line in str(error).splitlines() if f" {setting} is " in line]:
            raise UserError("\n".join(reasons)) from None


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.search", description=__doc__)
    parser.add_argument("count", type=one_or_more, metavar="N", help="number of trials, including finished ones")
    parser.add_argument("ranges", nargs="+", metavar="SETTING=RANGE")
    parser.add_argument("--name", help="name of the group (default: made from data set, settings, ranges and code)")
    parser.add_argument("--jobs", type=one_or_more, default=1, metavar="N", help=JOBS)
    options = parser.parse_args()
    ranges = {setting: text for setting, _, text in (pair.partition("=") for pair in options.ranges)}
    main(lambda project: run_search(project, options.count, ranges, options.name, options.jobs))
