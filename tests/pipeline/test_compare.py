"""`pipeline.compare` on real predictions, commits, caches and MLflow runs, and groups of seeds."""

import os
import re
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML
from scipy.stats import ttest_1samp
from support.finished_pipeline import commit, epochs, run
from support.pictures import picture, pictures
from support.project import PROJECT, copy_project
from support.real_repro import all_runs, dvc, wait_for

from image_classifier.compare.comparison import describe_seeds, seed_sample, seed_verdict
from image_classifier.compare.members import group_name
from image_classifier.compare.sources import describe_code, read_run
from image_classifier.evaluation.predictions import Evaluation
from image_classifier.outputs.history import write_history
from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.params import load_params
from image_classifier.project.recipes import overlay
from image_classifier.system.errors import UserError
from image_classifier.system.git import dvc_experiments
from image_classifier.tracking.publication import publish
from pipeline import compare, search
from pipeline.seeds import run_seeds


@pytest.fixture
def project(compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the compared project, as the working directory."""
    return copy_project(compared, tmp_path / "project", monkeypatch)


def compared_text(capsys: pytest.CaptureFixture[str], *words: str, markdown: bool = False) -> str:
    capsys.readouterr()
    compare.run(Namespace(runs=list(words), markdown=markdown), load_params(locations.PARAMS))
    return capsys.readouterr().out


def right(evaluation: Evaluation) -> int:
    return int((evaluation.predicted == evaluation.labels).sum())


def test_two_commits_are_compared_image_by_image(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (comparison,) = compare.read_comparisons(["first", "second"], load_params(locations.PARAMS))
    one, other, counts = comparison.first.evaluation, comparison.other.evaluation, comparison.counts
    assert counts.total == 359
    assert right(other) - right(one) == counts.only_second - counts.only_first
    printed = compared_text(capsys, "first", "second")
    assert f"({right(other):,} of 359, 95% interval " in printed
    assert "Both have the same settings with seeds 0 and 1" in printed
    assert "  train.seed: 0 -> 1" in printed


def test_code_that_git_does_not_have_is_not_called_the_same(
    compared: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(compared)
    (comparison,) = compare.read_comparisons(["first", "second"], load_params(locations.PARAMS))
    assert describe_code(comparison.first, comparison.other).startswith("The same code")
    monkeypatch.chdir(locations.DATA)  # which Git ignores, like the demo's folder
    assert describe_code(comparison.first, comparison.other).startswith("Git does not have the code")


def test_the_workspace_and_its_mlflow_run_have_the_same_predictions(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publication = publish(read_project())
    assert publication.run_name
    printed = compared_text(capsys, "workspace", publication.run_name)
    assert "The difference is +0.00 points" in printed
    assert "Both have the same settings and seed." in printed
    assert "train." not in printed.partition("->")[2]


def test_markdown_holds_the_table_and_the_verdict(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = compared_text(capsys, "first", "longer", "second", markdown=True)
    assert printed.startswith("| run | accuracy | 95% interval | against first |")
    assert "allow for 2 comparisons with first (Bonferroni)" in printed


def test_settings_are_those_of_the_predictions_if_the_report_is_older(project: Path) -> None:
    overlay(locations.PARAMS, {"train": {"epochs": 5}}, locations.PARAMS)
    dvc("repro", "evaluate")
    assert read_run("workspace", load_params(locations.PARAMS)).settings["train.epochs"] == "5"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["first", "nonsense"], "'nonsense' is not a run"),
        (["first"], "give two or more different runs"),
        (["first", ""], "give two or more different runs"),
        (["first", "champion"], "is champion yet"),
        (["first", "HEAD:params.yaml"], "HEAD:params.yaml is a file or folder in Git, not a commit"),
        (["first", "HEAD^{tree}"], "is a file or folder in Git, not a commit"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused_with_the_reason(
    project: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compared_text(capsys, *words)


def test_seeds_on_other_pictures_are_another_group(tiny_params_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_params_file.parent)
    shutil.copy(PROJECT / "dvc.yaml", ".")
    overlay(locations.PARAMS, {"data": {"dataset": "folder"}}, locations.PARAMS)
    pictures(Path("images"))
    name = group_name(read_project(), {})
    assert group_name(read_project(), {}) == name
    picture(Path("images", "red", "new.png"))
    assert group_name(read_project(), {}) != name


def test_runs_on_other_test_images_are_refused(project: Path) -> None:
    table = locations.PREDICTIONS.read_text().splitlines()
    locations.PREDICTIONS.write_text("\n".join(table[:-1]) + "\n")
    dvc("commit", "--force", "evaluate")
    with pytest.raises(UserError, match=r"saw different test images \(359 and 358 images\)"):
        compare.read_comparisons(["first", "workspace"], load_params(locations.PARAMS))


def make_group(name: str, *tags: str) -> None:
    """Call commits the seeds 0, 1 and so on of a group, as DVC names its experiments."""
    for seed, tag in enumerate(tags):
        run("git", "update-ref", f"refs/exps/00/{'0' * 38}/{name}-seed{seed}", tag, cwd=Path.cwd())


def test_groups_are_compared_over_the_seeds_that_both_have(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_group("one", "first", "second", "longer")
    make_group("two", "longer", "first")
    accuracy = {
        tag: read_run(tag, load_params(locations.PARAMS)).evaluation.accuracy for tag in ("first", "second", "longer")
    }
    differences = np.array([accuracy["longer"] - accuracy["first"], accuracy["first"] - accuracy["second"]])
    printed = compared_text(capsys, "one", "two")
    assert f"2     {accuracy['longer']:.2%}\n" in printed, "the table has the seed that only one group has"
    assert (
        f"Over the 2 seeds in common, the difference is {100 * differences.mean():+.2f} points, 95% interval" in printed
    )
    assert f"(paired t test: p = {ttest_1samp(differences, 0).pvalue:.2g})" in printed


def test_groups_with_one_seed_in_common_or_without_spread_give_no_verdict(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_group("one", "first", "second")
    make_group("two", "first", "second")
    make_group("three", "longer")
    printed = compared_text(capsys, "one", "two", "three")
    assert "the difference is +0.00 points for each seed: more seeds are needed to tell it from chance." in printed
    assert "Seeds in common: 1; two or more are needed" in printed
    assert "chance: " not in printed


def test_a_group_is_not_compared_with_a_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_group("one", "first")
    with pytest.raises(UserError, match="one is a group of seeds, second is not: compare groups with groups"):
        compared_text(capsys, "one", "second")


def test_a_name_of_other_settings_is_refused_for_a_group_of_seeds(project: Path) -> None:
    make_group("one", "longer")
    with pytest.raises(UserError, match="one-seed0 has other settings than those asked for now: give another --name"):
        run_seeds(1, "one", None)


def test_a_seed_that_fails_stops_no_other_and_is_named(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    yaml = YAML()
    definition = yaml.load(project / "dvc.yaml")
    definition["stages"]["train"]["cmd"].insert(0, "grep 'seed: 1' params.yaml")
    yaml.dump(definition, project / "dvc.yaml")
    commit(project, "Seed 0 diverges")
    with pytest.raises(UserError, match="1 of 2 seeds failed: 0; correct the reasons above, then start the same comm"):
        run_seeds(2, "some", None)
    printed, errors = capfd.readouterr()
    assert re.search(r"\nseed  some\n1 +\d.*\n\nsome: .*%, one seed only", printed)
    assert "error: some-seed0 failed" in errors
    assert all(found.info.run_name != "some" for found in all_runs(project))


def test_several_seeds_at_a_time_are_those_of_one_after_the_other(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_seeds(3, "together", None, jobs=3)
    run_seeds(3, "inturn", None)
    printed, _ = capfd.readouterr()
    accuracies = re.findall(r"^\d +\d.*$", printed, re.MULTILINE)
    together, in_turn = accuracies[:3], accuracies[3:]
    assert together == in_turn
    assert len(together) == 3
    assert "Reproducing experiment" in Path("build/members/together-seed2.log").read_text()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_group_leaves_no_process_and_no_copy_of_the_project(
    finished: Path, sent: signal.Signals
) -> None:
    overlay(locations.PARAMS, {"train": {"epochs": 50}}, locations.PARAMS)
    seeds = start_seeds(3, "--jobs", "2")
    wait_for(lambda: len(list(finished.glob("checkpoints/*/state.pt"))) >= 2)
    members = psutil.Process(seeds.pid).children(recursive=True)
    seeds.send_signal(sent)
    assert seeds.wait() != 0
    assert psutil.wait_procs(members, timeout=1)[1] == []
    assert list(finished.glob(".dvc/tmp/exps/standalone/tmp*")) == []


def test_no_interval_of_accuracies_leaves_0_to_100_percent(project: Path) -> None:
    run = read_run("first", load_params(locations.PARAMS))
    runs = {
        seed: replace(run, evaluation=with_accuracy(run.evaluation, share)) for seed, share in enumerate([0.1, 0.9])
    }
    assert seed_sample(runs).interval == (0, 1)
    assert describe_seeds("two", runs).endswith("interval of the mean 0.00% to 100.00% (Student's t).")
    turned = {seed: runs[1 - seed] for seed in runs}
    assert "95% interval -100.00 to +100.00 points" in " ".join(
        seed_verdict("two", "turned", {"two": runs, "turned": turned})
    )


def with_accuracy(evaluation: Evaluation, share: float) -> Evaluation:
    """The evaluation of a network that gets the first images right, this share of all."""
    answers = np.where(np.arange(len(evaluation.labels)) < share * len(evaluation.labels), 0, 1) + evaluation.labels
    return replace(evaluation, probabilities=np.eye(10)[answers % 10])


def start_seeds(count: int, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline.seeds", str(count), "--name", "tiny", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_a_group_of_seeds_that_was_killed_continues_below_one_parent_run(finished: Path) -> None:
    """Seed 0 is the finished project's own, so only seed 1 is trained."""
    shutil.rmtree("checkpoints")  # the finished training's
    overlay(locations.PARAMS, {"runtime": {"checkpoint_steps": 1}}, locations.PARAMS)
    commit(finished, "More checkpoints")
    run("git", "config", "user.name", "Test", cwd=finished)
    run("git", "config", "user.email", "t@example.org", cwd=finished)
    killed = start_seeds(2)
    wait_for(lambda: list(finished.glob("checkpoints/*/state.pt")))
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    printed, _ = start_seeds(2).communicate()
    assert "continuing from the checkpoint" in printed
    assert "tiny: mean " in printed
    assert sorted(dvc_experiments()) == ["tiny-seed0", "tiny-seed1"]
    again, _ = start_seeds(2).communicate()
    assert "tiny-seed0 exists\ntiny-seed1 exists" in again

    (parent,) = (found for found in all_runs(finished) if found.info.run_name == "tiny")
    identifier = parent.info.run_id
    children = [found for found in all_runs(finished) if found.data.tags.get("mlflow.parentRunId") == identifier]
    accuracies = [child.data.metrics["evaluate/accuracy"] for child in children]
    assert sorted(child.data.params["train.seed"] for child in children) == ["0", "1"]
    assert parent.data.metrics["seeds/mean"] == pytest.approx(sum(accuracies) / 2)
    client = MlflowClient(f"sqlite:///{finished}/mlruns/mlflow.db")
    assert len(client.get_metric_history(parent.info.run_id, "seeds/mean")) == 1


def test_a_search_continues_and_names_the_best_by_validation_accuracy(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay(locations.PARAMS, {"data": {"validation_images": 100}}, locations.PARAMS)
    history = [replace(epoch, held_out_name="validation") for epoch in epochs(3)]
    write_history(project / "ready" / locations.HISTORY, history)
    commit(project, "Hold images out")
    ranges = {"train.lr_max": "log:0.05..0.8", "train.batch_size": "64,128", "augment.flip": "true,alternate"}
    search.run_search(read_project(), 1, ranges, "tiny")
    search.run_search(read_project(), 2, ranges, "tiny")
    printed = capsys.readouterr().out.partition("tiny-trial0 exists\nrunning tiny-trial1\n")[2]
    assert "tiny-trial0 is the best. " in printed, "the first of equal trials"
    assert f"{history[-1].held_out_accuracy:.2%}" in printed
    assert printed.endswith("MLflow run tiny holds 2 runs\n")
    with pytest.raises(UserError, match="tiny-trial0 has other settings than those asked for now"):
        search.run_search(read_project(), 2, {"train.lr_max": "log:0.1..0.2"}, "tiny")


def test_a_trial_that_fails_stops_no_other(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    overlay(locations.PARAMS, {"data": {"validation_images": 100}}, locations.PARAMS)
    commit(project, "Hold images out")
    ranges = {"train.batch_size": "64,128", "train.ghost_batch": "64"}  # together only with 128
    search.run_search(read_project(), 3, ranges, "tiny")
    printed, errors = capfd.readouterr()
    failed = re.findall(r"^tiny-trial\d +64 +64 +failed$", printed, re.M)
    finished = re.findall(r"^tiny-trial\d +128 +64 +\d+\.\d+%$", printed, re.M)
    assert failed
    assert finished
    assert len(failed + finished) == 3
    assert errors.count(" failed: the reason is above") == len(failed)


@pytest.mark.parametrize(
    ("validation_images", "ranges", "message"),
    [
        (0, {"train.lr_max": "0.1..0.4"}, "the test set would choose"),
        (100, {"train.rate": "0.1..0.4"}, "train.rate is not a setting that changes results; allowed: data.dataset, "),
        (100, {"train.lr_max": "0.4..0.1"}, "train.lr_max=0.4..0.1: .* allowed: LOW..HIGH, log:LOW..HIGH, or A,B,C"),
        (100, {"train.lr_max": "0.1..500"}, "train.lr_max is 500.0; allowed: find or a number above 0 to 100"),
        (100, {"train.epochs": "2.5..inf"}, "train.epochs is 2.5; allowed: a whole number"),
        (100, {"augment.flip": "true,maybe"}, "augment.flip is 'maybe'; allowed: true or false or alternate"),
        (100, {"train.lr_max": "0.1..x"}, "train.lr_max=0.1..x: .* allowed"),
    ],
)
def test_a_search_that_cannot_work_is_refused(
    project: Path, validation_images: int, ranges: dict[str, str], message: str
) -> None:
    overlay(locations.PARAMS, {"data": {"validation_images": validation_images}}, locations.PARAMS)
    with pytest.raises(UserError, match=message):
        search.run_search(read_project(), 1, ranges, None)


def test_a_project_may_be_a_folder_of_a_larger_git_repository(project: Path) -> None:
    (project / ".git").rename(project.parent / ".git")
    commit(project.parent, "Beside other projects")
    params = load_params(locations.PARAMS)
    here, committed = read_run("workspace", params), read_run("HEAD", params)
    assert committed == replace(here, name="HEAD", edited=False, evaluation=committed.evaluation)
    assert np.array_equal(committed.evaluation.predicted, here.evaluation.predicted)
    with pytest.raises(UserError, match=r"first has no dvc\.lock"):  # in this folder
        read_run("first", params)


def test_a_commit_in_a_folder_without_git_is_no_run(workspace: Path) -> None:
    shutil.rmtree(".git")
    with pytest.raises(UserError, match="'HEAD' is not a run in MLflow experiment"):
        read_run("HEAD", load_params(Path("params.yaml")))
