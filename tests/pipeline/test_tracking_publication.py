import base64
import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import PIL
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from support.finished_pipeline import epochs, follow, ran, write_json, write_metrics, write_outputs, write_table
from support.project import PROJECT, TINY

from image_classifier.model.model_file import load_model
from image_classifier.model.network import Classifier
from image_classifier.outputs.history import write_history
from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.params import Params, load_params
from image_classifier.project.recipes import overlay
from image_classifier.project.store_location import follow_move
from image_classifier.tracking.groups import publish_group
from image_classifier.tracking.publication import SAME_WEIGHTS, publish
from image_classifier.tracking.runs import STATE
from image_classifier.tracking.store import open_store


def with_settings(folder: Path, **changes: dict[str, object]) -> Params:
    """The tiny settings with some changes."""
    overlay(PROJECT / "params.yaml", TINY, folder / "params.yaml")
    overlay(folder / "params.yaml", changes, folder / "params.yaml")
    return load_params(folder / "params.yaml")


def active_runs(params: Params) -> list[Run]:
    store = open_store(params.runtime.experiment)
    return list(store.client.search_runs([store.experiment_id]))


def published_run(params: Params) -> Run:
    (run,) = active_runs(params)
    return run


def client() -> MlflowClient:
    return MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")


def champion(params: Params) -> str:
    return str(client().get_model_version_by_alias(params.runtime.registered_model, "champion").version)


def database_dump() -> list[str]:
    return list(sqlite3.connect("mlruns/mlflow.db").iterdump())


def test_a_run_holds_settings_curves_figures_files_data_set_and_model(project: Path, tiny_params: Params) -> None:
    publication = publish(read_project(), ran())
    run = published_run(tiny_params)
    assert publication.run_id == run.info.run_id
    assert run.info.run_name == f"digits-2ep-seed0-75.00-{run.data.tags[STATE][:8]}"
    assert run.info.status == "FINISHED"
    assert run.data.params["train.batch_size"] == "128"
    assert not any(name.startswith("runtime.") for name in run.data.params)

    curve = client().get_metric_history(run.info.run_id, "epoch/test_accuracy")
    assert [(point.step, point.value) for point in curve] == [(1, 0.4), (2, 0.7)]
    sweep = client().get_metric_history(run.info.run_id, "lr_find/smoothed_loss")
    assert [(point.step, point.value) for point in sweep] == [(0, 2.3), (1, 2.2), (2, 2.0)]
    assert run.data.metrics["evaluate/accuracy"] == run.data.metrics["evaluate/per_class/7"] == 0.75
    assert run.data.metrics["lr_find/suggestion/minimum_10"] == 0.2

    for path in (locations.GRADCAM_PAGE, locations.MISCLASSIFIED, locations.CONFUSION_PLOT, locations.LR_CURVE):
        stored = client().download_artifacts(run.info.run_id, path.relative_to(locations.REPORTS).as_posix())
        assert Path(stored).read_bytes() == path.read_bytes()
    for words in ("75.00% test accuracy", "Data set digits, epochs: 2, seed: 0."):
        assert words in run.data.tags["mlflow.note.content"]


def test_the_registered_model_takes_raw_images_and_answers_as_the_weights_do(
    project: Path, tiny_params: Params
) -> None:
    publish(read_project(), ran())
    images = np.load("data/digits/test_images.npy")
    served = mlflow.pyfunc.load_model(f"models:/{tiny_params.runtime.registered_model}@champion")
    with torch.inference_mode():
        expected = Classifier(load_model(locations.MODEL).net)(torch.from_numpy(images))
    np.testing.assert_allclose(served.predict(images), expected, atol=1e-6)
    model = client().get_logged_model(served.model_id)
    requirements = (Path(model.artifact_location.removeprefix("file://")) / "requirements.txt").read_text()
    assert {f"torch=={torch.__version__.partition('+')[0]}", f"pillow=={PIL.__version__}"} <= {
        *requirements.splitlines()
    }


def test_publishing_again_changes_nothing_at_all(project: Path, tiny_params: Params) -> None:
    publish(read_project(), ran())
    before = database_dump()
    assert publish(read_project(), ran()).actions == ()
    assert database_dump() == before


def test_a_group_holds_the_run_of_a_state_even_if_no_experiment_made_it(project: Path, tiny_params: Params) -> None:
    publish(read_project(), ran())  # from the workspace, not from an experiment
    state = published_run(tiny_params).data.tags[STATE]
    assert publish_group(tiny_params, "seeds", {state, "another"}, {"seeds/mean": 0.75}).endswith("holds 1 run")
    (child,) = (run for run in active_runs(tiny_params) if run.data.tags.get(STATE) == state)
    assert client().get_run(child.data.tags["mlflow.parentRunId"]).data.metrics == {"seeds/mean": 0.75}


def test_several_stages_complete_one_run(project: Path, tiny_params: Params) -> None:
    with follow() as live:
        for epoch in epochs(2):
            live.log_epoch(epoch)
    followed = published_run(tiny_params)
    publish(read_project(), ran("train"))
    shown = published_run(tiny_params).data.metrics.keys()
    assert shown >= followed.data.metrics.keys() | {"lr_min", "lr_max"}
    assert not [name for name in shown if name.startswith("evaluate/")]
    publish(read_project(), ran("lr_find", "train", "evaluate"))
    publish(read_project(), ran())
    run = published_run(tiny_params)
    assert run.info.run_id == followed.info.run_id
    assert len(client().get_metric_history(run.info.run_id, "epoch/train_loss")) == 2
    assert {"evaluate/accuracy", "lr_find/loss"} <= run.data.metrics.keys()


def test_a_class_of_any_name_has_a_metric_of_its_own(project: Path, tiny_params: Params) -> None:
    metrics = json.loads(locations.TEST_METRICS.read_text(encoding="utf-8"))
    metrics["per_class_accuracy"] = {"a & b": 0.1, "a % b": 0.2, "x" * 250: 0.3, "größer": 0.4}
    locations.TEST_METRICS.write_text(json.dumps(metrics), encoding="utf-8")
    publish(read_project(), ran())
    logged = published_run(tiny_params).data.metrics
    shown = {name.rpartition("/")[2]: value for name, value in logged.items() if "per_class" in name}
    assert shown == {"a _ b": 0.1, "a _ b 1": 0.2, "x" * 200: 0.3, "größer": 0.4}


def test_the_served_model_says_unsure_up_to_the_threshold_that_evaluate_found(project: Path) -> None:
    params = with_settings(project, data={"validation_images": 20}, evaluate={"wanted_accuracy": 0.6})
    metrics = json.loads(locations.TEST_METRICS.read_text(encoding="utf-8"))
    picture = base64.b64encode(Path(locations.CONFUSION_PLOT).read_bytes()).decode()
    for threshold, unsure in ((0.999, True), (0.0, False)):  # evaluated again with another wanted accuracy
        write_json(locations.TEST_METRICS, metrics | {"unsure": {"threshold": threshold}})
        actions = publish(read_project(), ran()).actions
        served = mlflow.pyfunc.load_model(f"models:/{params.runtime.registered_model}@champion")
        [[best, *others]] = served.predict([picture])
        assert best["unsure"] is unsure
        assert "unsure" not in others[0]
    assert "noted the threshold in the model's files" in actions
    assert publish(read_project(), ran()).actions == ()


def test_a_forced_repetition_leaves_no_second_run(project: Path, tiny_params: Params) -> None:
    first = publish(read_project(), ran())
    with follow() as live:
        live.log_epoch(epochs(1)[0])
        assert len(active_runs(tiny_params)) == 2
    repetition = publish(read_project(), ran("train"))
    assert published_run(tiny_params).info.run_id == first.run_id == repetition.run_id
    assert "a duplicate of it" in repetition.actions[0]


def test_other_figures_for_the_same_state_replace_its_run(project: Path, tiny_params: Params) -> None:
    first = publish(read_project(), ran())
    write_metrics(project, accuracy=0.5)
    second = publish(read_project(), ran())
    run = published_run(tiny_params)
    assert run.info.run_id == second.run_id != first.run_id
    assert [metric.value for metric in client().get_metric_history(run.info.run_id, "evaluate/accuracy")] == [0.5]


def test_a_changed_file_or_a_lost_one_is_published_again(project: Path, tiny_params: Params) -> None:
    publish(read_project(), ran())
    locations.GRADCAM_PAGE.write_text("<!doctype html><title>Better</title>")
    (lost,) = Path("mlruns/artifacts").rglob("misclassified.png")
    lost.unlink()
    publication = publish(read_project(), ran())
    assert publication.actions == ("files added: 2",)
    assert publication.run_id
    assert "Better" in Path(client().download_artifacts(publication.run_id, "gradcam/index.html")).read_text()
    assert lost.is_file()


def test_a_workspace_with_fewer_results_takes_nothing_from_the_run(project: Path, tiny_params: Params) -> None:
    publish(read_project(), ran())
    complete = published_run(tiny_params)
    publish(read_project(), ran("lr_find", "train"))
    run = published_run(tiny_params)
    assert run.info.run_name == complete.info.run_name
    assert run.data.metrics == complete.data.metrics
    assert run.data.tags["mlflow.note.content"] == complete.data.tags["mlflow.note.content"]


def test_a_change_to_evaluation_alone_is_a_new_run_of_the_same_model(project: Path, tiny_params: Params) -> None:
    publish(read_project(), ran())
    other = with_settings(project, evaluate={"calibration_bins": 7})
    publish(read_project(), ran())
    first, second = active_runs(other)
    assert {first.data.params["evaluate.calibration_bins"], second.data.params["evaluate.calibration_bins"]} == {
        "7",
        "15",
    }
    assert first.outputs
    assert second.outputs
    assert first.outputs.model_outputs == second.outputs.model_outputs
    assert champion(tiny_params) == "1"
    assert len(client().search_model_versions()) == 1
    (twin,) = (found for found in (first, second) if SAME_WEIGHTS in found.data.tags)
    client().delete_run(twin.data.tags[SAME_WEIGHTS])
    if twin.data.params["evaluate.calibration_bins"] == "15":
        with_settings(project, evaluate={"calibration_bins": 15})
    publish(read_project(), ran())
    assert SAME_WEIGHTS not in client().get_run(twin.info.run_id).data.tags


def test_a_training_followed_under_other_settings_of_a_later_stage_is_published_under_these(
    project: Path, tiny_params: Params
) -> None:
    with follow() as live:
        for epoch in epochs(2):
            live.log_epoch(epoch)
    other = with_settings(project, gradcam={"layer": "layer1"})
    publish(read_project(), ran())
    assert published_run(other).data.params["gradcam.layer"] == "layer1"


def test_settings_that_shape_no_result_make_no_new_run(project: Path, tiny_params: Params) -> None:
    publish(read_project(), ran())
    with_settings(project, runtime={"checkpoint_steps": 7})
    assert publish(read_project(), ran()).actions == ()


def test_champion_is_the_oldest_of_the_most_accurate(project: Path, tiny_params: Params) -> None:
    holders = []
    for seed, accuracy in enumerate([0.75, 0.7, 0.9, 0.9, 0.89]):
        write_outputs(project, tiny_params, accuracy, seed)
        with_settings(project, train={"seed": seed})
        publish(read_project(), ran())
        holders.append(champion(tiny_params))
    assert holders == ["1", "1", "3", "3", "3"]


def test_each_version_has_its_model_card_and_the_registered_model_has_the_champions(
    project: Path, tiny_params: Params
) -> None:
    name = tiny_params.runtime.registered_model
    for seed, (accuracy, card) in enumerate(
        [(0.7, "# First\n"), (0.9, "# Best\n" + 900 * "a line\n"), (0.8, "# Last\n")]
    ):
        write_outputs(project, tiny_params, accuracy, seed)
        locations.MODEL_CARD.write_text(card)
        with_settings(project, train={"seed": seed})
        publish(read_project(), ran())
    first, best, last = (client().get_model_version(name, number).description or "" for number in "123")
    assert (first, last) == ("# First\n", "# Last\n")
    assert best.startswith("# Best\na line\n")
    assert best.endswith("a line\n\nThe whole card is the run's artifact `model_card.md`.")
    described = client().get_registered_model(name).description or ""
    assert described.endswith(f"Now it is version 2:\n\n{best}")
    assert len(described) <= 5000
    locations.MODEL_CARD.write_text("# Last, corrected\n")
    assert publish(read_project(), ran()).actions == ("described version 3 by its model card", "files added: 1")


def publish_rival(project: Path, params: Params, seed: int, accuracy: float, validation: float | None = None) -> str:
    """Publish a model of another seed, and return the actions; `validation` is the accuracy of its last epoch."""
    write_outputs(project, params, accuracy, seed)
    with_settings(project, train={"seed": seed})
    right = np.arange(200) < 200 * accuracy
    rows = [[index, "0", "0" if is_right else "1"] for index, is_right in enumerate(right)]
    write_table(locations.PREDICTIONS, [["index", "true", "predicted"], *rows])
    if validation is not None:
        history = [replace(e, held_out_name="validation", held_out_accuracy=validation) for e in epochs(2)]
        write_history(locations.HISTORY, history)
    return "\n".join(publish(read_project(), ran()).actions)


def test_champion_is_chosen_by_validation_accuracy_where_both_models_have_one(
    project: Path, tiny_params: Params
) -> None:
    holders = []
    for seed, (test, validation) in enumerate([(0.75, None), (0.7, 0.99), (0.8, 0.7), (0.9, 0.6), (0.6, 0.8)]):
        printed = publish_rival(project, tiny_params, seed, test, validation)
        holders.append(champion(tiny_params))
    assert holders == ["1", "1", "3", "3", "5"]
    assert "champion of cifar10-resnet is now version 5, 60.00% (before: version 3; chosen by validation acc" in printed


def test_a_champion_that_the_test_set_chose_says_so_and_whether_its_lead_is_more_than_chance(
    project: Path, tiny_params: Params
) -> None:
    publish_rival(project, tiny_params, 0, 0.75)
    within = publish_rival(project, tiny_params, 1, 0.76)
    assert "chosen on the test set, so its accuracy there is optimistic; its lead is within chance" in within
    beyond = publish_rival(project, tiny_params, 2, 0.95)  # 38 more images right, none less: p = 2 / 2^38
    assert "its lead is more than chance (McNemar's exact test: p < 0.0001)" in beyond
    version = client().get_model_version_by_alias(tiny_params.runtime.registered_model, "champion")
    assert f"({version.tags['chosen']})" in beyond
    assert version.run_id
    client().delete_run(version.run_id)
    shutil.rmtree("mlruns/artifacts")
    assert "is unknown: the two runs have no predictions" in publish_rival(project, tiny_params, 3, 0.99)


@pytest.mark.parametrize("tags", [{}, {"dataset": "digits"}, {"dataset": "digits", "accuracy": "inf"}])
def test_a_version_registered_by_hand_is_no_rival(project: Path, tiny_params: Params, tags: dict[str, str]) -> None:
    name = tiny_params.runtime.registered_model
    open_store(tiny_params.runtime.experiment)
    client().create_registered_model(name)
    client().create_model_version(name, (project / "models").as_uri(), tags=tags)
    publish(read_project(), ran())
    assert champion(tiny_params) == "2"


def test_a_model_that_was_left_half_logged_is_logged_anew(project: Path, tiny_params: Params) -> None:
    store = open_store(tiny_params.runtime.experiment)
    publish(read_project(), ran())
    (model,) = store.client.search_logged_models([store.experiment_id])
    store.client.finalize_logged_model(model.model_id, "FAILED")
    publish(read_project(), ran())
    (anew,) = store.client.search_logged_models([store.experiment_id])
    assert anew.model_id != model.model_id
    assert anew.status == "READY"


def test_the_data_set_is_not_needed_to_publish(project: Path, tiny_params: Params) -> None:
    shutil.rmtree(project / "data")
    publish(read_project(), ran("lr_find", "train", "evaluate", "gradcam_report"))
    assert champion(tiny_params) == "1"


def test_all_but_a_damaged_model_is_published(project: Path, tiny_params: Params) -> None:
    locations.MODEL.write_text("weights")
    publication = publish(read_project(), ran())
    assert any("the model is not published" in action for action in publication.actions)
    assert published_run(tiny_params).data.metrics["evaluate/accuracy"] == 0.75


def test_infinite_values_of_the_sweep_are_left_out(project: Path, tiny_params: Params) -> None:
    write_json(
        locations.LR_FOUND, json.loads(locations.LR_FOUND.read_text()) | {"suggestions": {"valley": float("nan")}}
    )
    publish(read_project(), ran())
    assert "lr_find/suggestion/valley" not in published_run(tiny_params).data.metrics


def test_deleted_artifacts_are_restored_and_the_champion_answers_again(project: Path, tiny_params: Params) -> None:
    first = publish(read_project(), ran())
    shutil.rmtree("mlruns/artifacts")
    actions = publish(read_project(), ran()).actions
    assert actions[0] == "restored the model's files"
    assert actions[1].startswith("files added: ")
    assert publish(read_project(), ran()).actions == ()
    assert published_run(tiny_params).info.run_id == first.run_id
    served = mlflow.pyfunc.load_model(f"models:/{tiny_params.runtime.registered_model}@champion")
    assert served.predict(np.zeros((1, 32, 32, 3), dtype=np.uint8)).shape == (1, 10)


def test_a_version_whose_model_was_deleted_is_replaced_by_a_new_one(project: Path, tiny_params: Params) -> None:
    store = open_store(tiny_params.runtime.experiment)
    publish(read_project(), ran())
    (model,) = store.client.search_logged_models([store.experiment_id])
    store.client.delete_logged_model(model.model_id)
    assert any("removed version 1" in action for action in publish(read_project(), ran()).actions)
    assert champion(tiny_params) == "2"


def test_versions_that_another_experiment_registered_stay(project: Path, tiny_params: Params) -> None:
    publish(read_project(), ran())
    with_settings(project, train={"seed": 1}, runtime={"experiment": "another"})
    write_outputs(project, tiny_params, accuracy=0.5, seed=1)
    publish(read_project(), ran())
    assert len(client().search_model_versions()) == 2


def test_every_location_in_a_moved_store_is_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`follow_move` rewrites MLflow's own tables; another version may store locations in other places."""
    publish(read_project(), ran())
    moved = project / "elsewhere" / "mlflow.db"
    moved.parent.mkdir()
    shutil.copy(project / "mlruns" / "mlflow.db", moved)
    former = (project / "mlruns" / "artifacts").as_uri()
    assert former in "".join(sqlite3.connect(moved).iterdump())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved}")
    assert former in str(follow_move())
    assert str(project / "mlruns") not in "".join(sqlite3.connect(moved).iterdump())
