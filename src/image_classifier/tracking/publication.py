"""DVC's outputs are the truth; a run in MLflow is their publication, one per state of the pipeline.

A state is all settings that shape results, and the MD5 of the weights. Its run is found by a tag with their hash, never
by a file. A missing run is made, and an incomplete one is completed from the files. A second publication changes
nothing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Run

from image_classifier.outputs.history import read_history
from image_classifier.project import locations
from image_classifier.project.definition import LOCK, Inputs, Project, read_lock
from image_classifier.project.hashing import file_md5, text_md5
from image_classifier.project.keys import state_key, training_key
from image_classifier.project.records import remove_false_records
from image_classifier.sources.making import plugin
from image_classifier.system.errors import UserError
from image_classifier.tracking import runs
from image_classifier.tracking.champion import elect_champion, rated_facts
from image_classifier.tracking.commit import note_commit
from image_classifier.tracking.false_runs import CHECKED, remove_false_runs
from image_classifier.tracking.notes import DESCRIBED, DESCRIPTION, hand_over, has_own_description, has_own_name
from image_classifier.tracking.provenance import EXPERIMENT, code_tags, machine_tags, reconstruction_tags
from image_classifier.tracking.registry import find_model, has_files, register_model
from image_classifier.tracking.results import Results, Values, read_results, test_metrics
from image_classifier.tracking.store import Store, open_store, store_errors, warn

VALUES = "mlflow.pipeline.values"  # tag: hash of the metric values that the run has
FILES = "mlflow.pipeline.files"  # tag: MD5 of each published file, as JSON
SAME_WEIGHTS = "same_weights_as"  # tag: the first run with these weights


@dataclass(frozen=True)
class Publication:
    """The run of the state on disk, and what was done to make it complete."""

    run_id: str | None  # None: the state cannot be published
    run_name: str | None
    actions: tuple[str, ...]
    outdated: Mapping[str, str]  # why outputs of stages are not shown, by stage
    note: str | None = None  # what people should know about the champion

    @property
    def obstacle(self) -> str | None:
        """Why nothing is published, in words."""
        return None if self.run_id else next(iter(self.outdated.values()), "no stage has run")


def publish_stage(stage: str, project: Project, inputs: Inputs) -> None:
    """Publish at the end of a stage. If the store fails, warn in one line; the stage's results are kept."""
    try:
        publication = publish(project, {stage: inputs})
    except Exception as error:
        warn(error, f"the results of {stage} are not published")
        return
    for line in filter(None, (*publication.actions, publication.note)):
        print(f"MLflow: {line}")
    if reason := publication.outdated.get(stage):
        print(f"MLflow: the results of {stage} are not published: {reason}")


@store_errors()
def publish(project: Project, completed: Mapping[str, Inputs] | None = None) -> Publication:
    """Make the run of the state on disk complete.

    `completed` stages have just run with these inputs, and DVC has not recorded them yet. Without any, as for `sync`,
    nothing is published while a stage has other settings than those that it ran with.

    A UserError if the store fails, its address is wrong or the experiment was deleted.
    """
    with (store := open_store(project.params.runtime.experiment)).lock:
        actions = [f"closed {name}, whose process is gone" for name in runs.close_dead_runs(store)]
        actions += [] if completed else remove_false_records()
        actions += [] if completed else remove_false_runs(store)
        results = read_results(project, completed := completed or {})
        waits_for_repro = not completed and results.has_other_settings
        if waits_for_repro or not results.outdated.keys().isdisjoint({"train", *completed}):
            return Publication(None, None, tuple(actions), results.outdated)
        publisher = _Publisher(store, project, results)
        run, claimed = publisher.claim_run(completed)
        actions += claimed
        actions += note_commit(store, run, project, results.outs.keys(), completed)
        for step in (publisher.add_model, publisher.add_values, publisher.add_files, publisher.add_facts):
            actions += step(run)
        elected, note = elect_champion(store, project.params, results.data_md5)
        return Publication(run.info.run_id, publisher.name(run), (*actions, *elected), results.outdated, note)


@dataclass(frozen=True)
class _Publisher:
    store: Store
    project: Project
    results: Results

    @cached_property
    def model_md5(self) -> str:
        return file_md5(locations.MODEL)

    @cached_property
    def state(self) -> str:
        return state_key(self.project.tracked, self.model_md5)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The model's figures on the test set; empty before stage evaluate has run."""
        return test_metrics() if "evaluate" in self.results.outs else {}

    @cached_property
    def values_digest(self) -> str:
        return text_md5(json.dumps([[*key, value] for key, value in self.results.values.items()]))

    def name(self, run: Run | None = None) -> str:
        """The name of the run; one that a person gave it, or that shows more results than are here, stays."""
        if run and not (has_own_name(run) and self.shows_all_of(run)):
            return str(run.info.run_name)
        experiment = run.data.tags.get(EXPERIMENT) if run else None
        accuracy = f"{100 * self.metrics['accuracy']:.2f}" if self.metrics else None
        return "-".join(filter(None, [experiment, runs.short_name(self.project), accuracy, self.state[:8]]))

    def shows_all_of(self, run: Run) -> bool:
        """Whether the files here are at least those that the run shows."""
        return set(json.loads(run.data.tags.get(FILES, "{}"))) <= self.results.files().keys()

    def claim_run(self, completed: Mapping[str, Inputs]) -> tuple[Run, list[str]]:
        """The run of this state: published before, followed live, or new. Other runs of this state are removed."""
        trained_from = completed.get("train") or read_lock()["train"].inputs
        training = training_key(trained_from)
        candidates = runs.tagged(self.store, runs.STATE, self.state)
        candidates += reversed(runs.unpublished_trainings(self.store, training))  # the newest training first
        shown = (run for run in candidates if runs.has_settings(run, self.project.tracked))
        fitting = next((run for run in shown if self.agrees_with(run)), None)
        removed = [run for run in candidates if run is not fitting]
        reason = "a duplicate of it" if fitting else "whose settings or values differ from the files"
        actions = [f"removed {run.info.run_name}, {reason}" for run in removed]
        identity = {runs.STATE: self.state, runs.MODEL: self.model_md5, runs.TRAINING: training, CHECKED: "true"}
        if self.project.params.train.start_from != "random":
            identity[runs.START_MD5] = trained_from.files[locations.START.as_posix()]
        if fitting is None:
            if completed:
                seen, started_ms = code_tags(self.project) | machine_tags(self.project.params.compute.device), None
            else:
                seen, started_ms = reconstruction_tags()
            fitting = runs.create_run(self.store, self.project.tracked, self.name(), seen | identity, started_ms)
            actions.append(f"created {self.name()}" + ("" if completed else f", reconstructed from {LOCK}"))
        elif runs.set_tags(self.store, fitting, identity) and runs.STATE not in fitting.data.tags:
            actions.append(f"the run followed live is {self.name(fitting)} now")
        fitting = hand_over(self.store, removed, fitting)
        for run in removed:
            self.store.client.delete_run(run.info.run_id)
        return fitting, actions

    def agrees_with(self, run: Run) -> bool:
        """Whether no value of a run differs from the files: MLflow would keep it for ever."""
        if run.data.tags.get(VALUES) == self.values_digest:
            return True
        logged, values = runs.logged_values(self.store, run), self.results.values
        return all(numbers == [values.get(key, numbers[0])] for key, numbers in logged.items())

    def missing_values(self, run: Run) -> Values:
        """The values that a run lacks."""
        if run.data.tags.get(VALUES) == self.values_digest:
            return {}
        logged = runs.logged_values(self.store, run)
        return {key: value for key, value in self.results.values.items() if key not in logged}

    def add_model(self, run: Run) -> Iterator[str]:
        """Log, link and register the model; log its files again if they are lost."""
        wants_threshold = self.project.params.evaluate.wanted_accuracy != "off"
        if wants_threshold and not self.metrics:
            return  # stage evaluate finds it
        known = find_model(self.store, self.model_md5)
        unsure_up_to = self.metrics.get("unsure", {}).get("threshold")
        has_other = known and self.metrics and known.tags.get(runs.UNSURE_UP_TO, "None") != str(unsure_up_to)
        model = known if known and has_files(self.store, known) and not has_other else None
        if model is None:
            from image_classifier.tracking.model_logging import log_model  # 2 s, and a complete run needs none of it

            try:
                model = log_model(self.store, run, self.project.params, self.model_md5, unsure_up_to, known)
            except UserError as error:
                yield f"the model is not published: {error}"
                return
            restored = "noted the threshold in the model's files" if has_other else "restored the model's files"
            yield restored if known else "logged the model"
        last = read_history(locations.HISTORY)[-1]
        validation = last.held_out_accuracy if last.held_out_name == "validation" else None
        facts = rated_facts(self.metrics, validation, self.results.data_md5) if self.metrics else {}
        has_card = locations.MODEL_CARD in self.results.files().values()  # the last stage makes it
        card = locations.MODEL_CARD.read_text(encoding="utf-8") if has_card else None
        yield from register_model(self.store, run, self.project.params, model, facts, card)

    def add_values(self, run: Run) -> Iterator[str]:
        """Log the metric values that the run lacks."""
        if missing := self.missing_values(run):
            model = find_model(self.store, self.model_md5)
            runs.log_values(self.store, run, missing, model.model_id if model else None)
            yield f"metric values added: {len(missing)}"
        runs.set_tags(self.store, run, {VALUES: self.values_digest})

    def add_files(self, run: Run) -> Iterator[str]:
        """Log the reports that the run lacks, or has with other contents."""
        client, run_id = self.store.client, run.info.run_id
        listed = client.list_artifacts(run_id)
        inside = [client.list_artifacts(run_id, entry.path) for entry in listed if entry.is_dir]
        stored = {file.path for files in (listed, *inside) for file in files}
        noted = json.loads(run.data.tags.get(FILES, "{}"))
        files = self.results.files()
        digests = {name: file_md5(path) for name, path in files.items()}
        missing = [name for name, md5 in digests.items() if name not in stored or noted.get(name) != md5]
        for name in missing:
            client.log_artifact(run_id, str(files[name]), name.rpartition("/")[0])
        runs.set_tags(self.store, run, {FILES: json.dumps(noted | digests, sort_keys=True)})
        if missing:
            yield f"files added: {len(missing)}"

    def add_facts(self, run: Run) -> Iterator[str]:
        """Name, describe and end the run; note its data set, and the first run with the same weights.

        What people wrote stays.
        """
        client, run_id = self.store.client, run.info.run_id
        if self.results.data_md5 and not (run.inputs and run.inputs.dataset_inputs):
            client.log_inputs(run_id, [_dataset_input(self.project.params.data.dataset, self.results.data_md5)])
            yield "noted the data set"
        updated: list[str] = []
        description = self.description()
        first = runs.tagged(self.store, runs.MODEL, self.model_md5)[0].info
        if first.run_id != run_id:
            if runs.set_tags(self.store, run, {SAME_WEIGHTS: first.run_id}):
                updated.append("tags")
            description += f"\n\nThe weights are those of run {first.run_name} ({first.run_id})."
        elif SAME_WEIGHTS in run.data.tags:  # the first run was deleted
            client.delete_tag(run_id, SAME_WEIGHTS)
            updated.append("tags")
        if run.info.run_name != self.name(run):
            client.update_run(run_id, name=self.name(run))
            updated.append("name")
        if self.shows_all_of(run) and has_own_description(run):
            if run.data.tags.get(DESCRIPTION) != description:
                updated.append("description")
            runs.set_tags(self.store, run, {DESCRIPTION: description, DESCRIBED: text_md5(description)})
        if run.info.status != runs.FINISHED:
            runs.end(self.store, run, runs.FINISHED)
            updated.append("status")
        if updated:
            yield f"updated the run's {', '.join(updated)}"

    def description(self) -> str:
        """The description that MLflow shows above a run, in Markdown."""
        train = self.project.params.train
        lines = [f"Data set {self.project.params.data.dataset}, epochs: {train.epochs}, seed: {train.seed}."]
        if self.metrics:
            lines.insert(0, f"**{self.metrics['accuracy']:.2%} test accuracy**, loss {self.metrics['loss']:.4f}.")
            lines.append("Mistakes, the most confident first: artifact `evaluate/misclassified.csv`.")
        if "gradcam_report" in self.results.outs:
            lines.append("Where the network looked: artifact `gradcam/index.html`.")
        return "\n\n".join(lines)


def _dataset_input(name: str, md5: str) -> DatasetInput:
    # As `MetaDataset` would make it. The source is the page that describes the data set: no run knows where the bytes
    # came from.
    page = plugin(name).HOME_PAGE
    source_type, source = ("http", {"url": page}) if page else ("local", {"uri": name})
    dataset = Dataset(name, md5, source_type=source_type, source=json.dumps(source))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
