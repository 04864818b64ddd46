"""`python -m pipeline.seeds N`: train the current settings with N seeds, and print their mean accuracy.

Each seed is a DVC experiment, GROUP-seed0, GROUP-seed1 and so on, in a copy of the project. If one fails, the others go
on. To continue a stopped command, start it again: finished seeds are not run again, and a training continues from its
checkpoint. In MLflow the runs are below one parent run. `lr_find.seed` stays as it is, so all seeds train at the same
learning rates.
"""

from argparse import ArgumentParser

from image_classifier.compare.comparison import SEED, describe_seeds, seed_sample, seed_table
from image_classifier.compare.members import group_name, run_members
from image_classifier.compare.sources import ComparedRun
from image_classifier.project.definition import read_project
from image_classifier.project.recipes import read_recipe
from image_classifier.project.settings import flat
from image_classifier.system.errors import UserError
from image_classifier.system.tables import as_text
from pipeline.stage import JOBS, main, one_or_more


def run_seeds(count: int, name: str | None, recipe_name: str | None, jobs: int = 1) -> None:
    """Run the seeds that are missing, and print all results; a UserError at the end if a seed fails.

    A mean without the seeds that failed would be too good, so MLflow gets a group only when all have finished.
    """
    recipe = read_recipe(recipe_name) if recipe_name else {}
    project = read_project(recipe)
    group = name or group_name(project, {SEED: "any"})
    members = {f"seed{seed}": {**flat(recipe), SEED: seed} for seed in range(count)}
    results = dict(enumerate(run_members(project, group, members, jobs).values()))
    runs = {seed: run for seed, run in results.items() if isinstance(run, ComparedRun)}
    failed = [seed for seed in results if seed not in runs]
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


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.seeds", description=__doc__)
    parser.add_argument("count", type=one_or_more, metavar="N", help="number of seeds: 0 to N - 1 are trained")
    parser.add_argument("--name", help="name of the group (default: made from data set, epochs, settings and code)")
    parser.add_argument("--recipe", metavar="NAME", help="use the settings in recipes/NAME.yaml")
    parser.add_argument("--jobs", type=one_or_more, default=1, metavar="N", help=JOBS)
    options = parser.parse_args()
    main(lambda: run_seeds(options.count, options.name, options.recipe, options.jobs))
