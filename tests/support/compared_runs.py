"""A DVC project with the results of two small networks: real predictions, commits and cache, no long training."""

import shutil
from contextlib import chdir
from pathlib import Path

from support.evaluated_digits import train_a_moment
from support.finished_pipeline import commit, epochs, run, write_dvc_project, write_outputs
from support.project import PROJECT, TINY, make_digits

from image_classifier.data import save_dataset
from image_classifier.model.compute import prepare_compute
from image_classifier.model.model_file import save_model
from image_classifier.outputs.history import write_history
from image_classifier.project import locations
from image_classifier.project.params import load_params
from image_classifier.project.recipes import overlay
from pipeline import evaluate


def write_results(folder: Path, seed: int, epochs_done: int) -> None:
    """Fill `folder/ready` with a network's real predictions; the stages of `write_dvc_project` copy them."""
    overlay(PROJECT / locations.PARAMS, TINY, folder / locations.PARAMS)
    overlay(folder / locations.PARAMS, {"train": {"seed": seed, "epochs": epochs_done}}, folder / locations.PARAMS)
    params = load_params(folder / locations.PARAMS)
    write_outputs(folder / "ready", params)
    with chdir(folder / "ready"):
        prepare_compute(params.compute)
        dataset = make_digits(seed=0)
        save_dataset(dataset, locations.DATA / "digits")
        save_model(locations.MODEL, train_a_moment(dataset, params, seed), params.model, dataset)
        write_history(locations.HISTORY, epochs(epochs_done))
        evaluate.run(params.data, params.evaluate, params.compute)


def write_runs(folder: Path, empty_store: Path) -> None:
    """Three tagged commits: `first` has seed 0, `second` seed 1, `longer` seed 2 and 3 epochs, as the workspace."""
    for name in ("ready", "mlruns"):
        (folder / name).mkdir()
    shutil.copy(empty_store, folder / "mlruns")
    for number, (tag, seed, epochs_done) in enumerate([("first", 0, 2), ("second", 1, 2), ("longer", 2, 3)]):
        write_results(folder, seed, epochs_done)
        if number == 0:
            write_dvc_project(folder)
            for name in ("src", "pipeline"):
                shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("data", "models", "reports"):
            shutil.copytree(folder / "ready" / name, folder / name, dirs_exist_ok=True)
        run("dvc", "commit", "--force", cwd=folder)
        commit(folder, f"Results of seed {seed}")
        run("git", "tag", tag, cwd=folder)
