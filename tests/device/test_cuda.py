"""What differs on a GPU: number formats, gradient scaler, compiler, loader processes. Skipped without a GPU."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from support.evaluated_digits import train_a_moment
from support.finished_pipeline import run_stages
from support.project import PROJECT, TINY, enter, make_digits
from torch import Tensor

from image_classifier.data import Dataset
from image_classifier.model.compute import Compute, native_precisions, prepare_compute
from image_classifier.model.inference import predict_logits
from image_classifier.outputs.history import read_history
from image_classifier.project import locations
from image_classifier.project.params import Params, load_params
from image_classifier.project.recipes import overlay
from image_classifier.training.loop import LearningRates, Trainer, TrainingData, TrainingState, make_training_data
from image_classifier.training.optimizers import set_learning_rate

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    whole = make_digits(seed=0)
    return replace(whole, train_images=whole.train_images[:512], train_labels=whole.train_labels[:512])


@pytest.fixture
def data(digits: Dataset, tiny_params: Params) -> TrainingData:
    return make_training_data(digits, tiny_params.data, tiny_params.augment)


def on_gpu(params: Params, **settings: object) -> Compute:
    return prepare_compute(params.compute.model_copy(update={"device": "cuda", **settings}))


def trainer(params: Params, compute: Compute, num_workers: int = 0, **settings: object) -> Trainer:
    train = params.train.model_copy(update=settings)
    return Trainer(train, LearningRates(lr_min=0.002, lr_max=0.02), compute, num_workers)


def steps(trainer: Trainer, state: TrainingState, data: TrainingData) -> Iterator[float]:
    """Train to the end; yields the loss of each step."""
    losses: list[float] = []
    for _ in trainer.epochs(state, data, lambda loss, num_steps: losses.append(loss.item())):
        yield from losses
        losses.clear()


def weights(state: TrainingState) -> Tensor:
    return torch.cat([weight.detach().flatten().cpu() for weight in state.net.parameters()])


def test_bf16_comes_first_where_the_gpu_has_it() -> None:
    has_bf16 = torch.cuda.get_device_capability() >= (8, 0)
    assert native_precisions(torch.device("cuda"))[0] == ("bf16" if has_bf16 else "fp16")


@pytest.mark.parametrize(
    ("precision", "optimizer", "compiler"),
    [
        ("fp32", "sgd", "off"),
        ("bf16", "muon", "off"),
        ("fp16", "sgd", "off"),
        ("bf16", "sgd", "on"),
        ("fp16", "muon", "on"),
    ],
)
def test_an_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(
    precision: str,
    optimizer: str,
    compiler: str,
    digits: Dataset,
    data: TrainingData,
    tiny_params: Params,
    tmp_path: Path,
) -> None:
    compute = on_gpu(tiny_params, precision=precision, compile=compiler)
    training = trainer(tiny_params, compute, optimizer=optimizer)
    whole = training.start(digits, tiny_params.model, seed=0)
    path = tmp_path / "state.pt"

    def save(loss: Tensor, num_steps: int) -> None:
        if (whole.epoch, whole.step) == (1, 2):
            torch.save(whole.state_dict(), path)

    for _ in training.epochs(whole, data, save):
        pass
    resumed = training.start(digits, tiny_params.model, seed=1)
    resumed.load_state_dict(torch.load(path, weights_only=True))
    assert (resumed.epoch, resumed.step) == (1, 2)
    for _ in training.epochs(resumed, data, lambda loss, num_steps: None):
        pass
    assert weights(resumed).isfinite().all()
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.history == whole.history
    assert resumed.scaler.state_dict() == whole.scaler.state_dict()


def test_a_step_whose_gradients_overflow_in_fp16_is_left_out_and_the_scale_halved(
    digits: Dataset, data: TrainingData, tiny_params: Params
) -> None:
    training = trainer(tiny_params, on_gpu(tiny_params, precision="fp16"))
    state = training.start(digits, tiny_params.model, seed=0)
    state.scaler.load_state_dict(state.scaler.state_dict() | {"scale": 2.0**60})
    before = weights(state)
    images, labels = torch.from_numpy(data.images[:64]), torch.from_numpy(data.labels[:64])
    set_learning_rate(state.optimizers, 0.01)
    training.step(state, images, labels, 64)
    assert torch.equal(weights(state), before)
    assert state.scaler.get_scale() == 2.0**59


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_learns_as_on_the_cpu(precision: str, digits: Dataset, data: TrainingData, tiny_params: Params) -> None:
    cpu = trainer(tiny_params, prepare_compute(tiny_params.compute))
    gpu = trainer(tiny_params, on_gpu(tiny_params, precision=precision))
    expected = list(steps(cpu, cpu.start(digits, tiny_params.model, seed=0), data))
    losses = list(steps(gpu, gpu.start(digits, tiny_params.model, seed=0), data))
    assert losses[:3] == pytest.approx(expected[:3], rel=1e-3 if precision == "fp32" else 2e-2)


def test_loader_processes_beside_the_gpu_change_nothing(
    digits: Dataset, data: TrainingData, tiny_params: Params
) -> None:
    compute = on_gpu(tiny_params, precision="bf16")
    alone, helped = trainer(tiny_params, compute), trainer(tiny_params, compute, num_workers=2)
    assert list(steps(helped, helped.start(digits, tiny_params.model, seed=0), data)) == list(
        steps(alone, alone.start(digits, tiny_params.model, seed=0), data)
    )


def test_a_network_predicts_as_on_the_cpu(digits: Dataset, tiny_params: Params) -> None:
    net, cpu = train_a_moment(digits, tiny_params), prepare_compute(tiny_params.compute)
    expected = predict_logits(net, digits.test_images, cpu)
    compute = on_gpu(tiny_params)
    found = predict_logits(compute.place(net), digits.test_images, compute)
    assert found == pytest.approx(expected, abs=1e-2)  # convolutions may use TF32
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.99


def test_all_stages_run_and_train_and_evaluate_agree(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay(PROJECT / "params.yaml", TINY | {"compute": {"device": "auto"}}, tmp_path / "params.yaml")
    shutil.copy(PROJECT / "dvc.yaml", tmp_path)
    enter(tmp_path, monkeypatch)
    Path("mlruns").mkdir()
    shutil.copy(empty_store, "mlruns")
    params = load_params(Path("params.yaml"))
    assert prepare_compute(params.compute).device.type == "cuda"
    run_stages(params)
    table = pd.read_csv(locations.PREDICTIONS, dtype={"true": str, "predicted": str})
    assert (table.true == table.predicted).mean() == read_history(locations.HISTORY)[-1].held_out_accuracy
    assert locations.GRADCAM_PAGE.exists()
