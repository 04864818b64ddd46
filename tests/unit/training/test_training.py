from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.project import make_digits
from torch import Tensor

from image_classifier.data import Dataset
from image_classifier.model.compute import Compute, prepare_compute
from image_classifier.model.network import Network
from image_classifier.model.start_file import write_start
from image_classifier.outputs.history import EpochMetrics
from image_classifier.project import locations
from image_classifier.project.params import CustomResNetParams, Params, ResNet18Params
from image_classifier.system.errors import UserError
from image_classifier.training.checkpoint import Checkpoint
from image_classifier.training.loop import (
    LearningRates,
    Trainer,
    TrainingData,
    TrainingState,
    evaluate_held_out,
    make_training_data,
    require_workable,
)
from image_classifier.training.optimizers import set_learning_rate


@pytest.fixture(scope="module")
def digits() -> Dataset:
    whole = make_digits(seed=0)
    return replace(
        whole,
        train_images=whole.train_images[:256],
        train_labels=whole.train_labels[:256],
        test_images=whole.test_images[:50],
        test_labels=whole.test_labels[:50],
    )


Start = Callable[..., TrainingState]
Train = Callable[..., Iterator[EpochMetrics]]


@pytest.fixture
def compute(tiny_params: Params) -> Compute:
    return prepare_compute(tiny_params.compute)


@pytest.fixture
def trainer(tiny_params: Params, compute: Compute) -> Trainer:
    return Trainer(tiny_params.train, LearningRates(lr_min=0.002, lr_max=0.02), compute)


def changed(trainer: Trainer, **settings: object) -> Trainer:
    return replace(trainer, settings=trainer.settings.model_copy(update=settings))


@pytest.fixture
def start(tiny_params: Params, digits: Dataset, trainer: Trainer) -> Start:
    """A function that starts a training, with some settings changed."""

    def start(logit_scale: float = 0.125, **settings: object) -> TrainingState:
        model = tiny_params.model.model_copy(update={"logit_scale": logit_scale})
        return changed(trainer, **settings).start(digits, model, seed=0)

    return start


@pytest.fixture
def data(tiny_params: Params, digits: Dataset) -> TrainingData:
    return make_training_data(digits, tiny_params.data, tiny_params.augment)


@pytest.fixture
def train(trainer: Trainer, data: TrainingData) -> Train:
    """A function that trains a state to its end: two epochs of two steps."""

    def train(
        state: TrainingState, after_step: Callable[[Tensor, int], None] = lambda loss, num_steps: None
    ) -> Iterator[EpochMetrics]:
        return trainer.epochs(state, data, after_step)

    return train


def test_two_seeded_steps_give_these_losses(start: Start, train: Train) -> None:
    losses = []
    history = list(train(start(logit_scale=1), after_step=lambda loss, num_steps: losses.append(loss.item())))
    # Between machines with AVX2 and AVX-512, the second loss differs by 5e-6, and later losses differ more.
    assert losses[:2] == pytest.approx([3.04336, 3.19123], rel=1e-3)
    assert [metrics.train_loss for metrics in history] == pytest.approx([sum(losses[:2]) / 2, sum(losses[2:]) / 2])
    assert [metrics.lr for metrics in history] == pytest.approx([0.02, 0.008])  # the second steps of the epochs


def test_the_last_epoch_is_measured_in_full_precision_as_the_model_is_evaluated(
    start: Start, data: TrainingData, compute: Compute, trainer: Trainer
) -> None:
    half = replace(compute, precision=torch.bfloat16)
    state = start()
    measured, exact, rounded = [], [], []
    for metrics in replace(trainer, compute=half).epochs(state, data, lambda loss, num_steps: None):
        measured.append(metrics.held_out_loss)
        exact.append(evaluate_held_out(state.net, data, compute)[0] / 50)
        rounded.append(evaluate_held_out(state.net, data, half)[0] / 50)
    assert measured == [rounded[0], exact[1]]
    assert exact[1] != rounded[1], "else nothing was tested"


def step(trainer: Trainer, state: TrainingState, images: Tensor, labels: Tensor, lr: float, batch_size: int) -> Tensor:
    set_learning_rate(state.optimizers, lr)
    return trainer.step(state, images, labels, batch_size)


def images_and_labels(digits: Dataset) -> tuple[Tensor, Tensor]:
    return torch.tensor(digits.train_images[:8]), torch.tensor(digits.train_labels[:8])


def test_a_step_is_nesterov_momentum_with_weight_decay(start: Start, digits: Dataset, trainer: Trainer) -> None:
    state, settings = start(), trainer.settings
    bias = state.net.get_parameter("classifier.bias")
    expected, velocity = bias.detach().clone(), torch.zeros(10)
    for lr in (0.1, 0.2):
        step(trainer, state, *images_and_labels(digits), lr, 8)
        assert bias.grad is not None
        gradient = bias.grad + settings.weight_decay * expected
        velocity = settings.momentum * velocity + gradient
        expected = expected - lr * (gradient + settings.momentum * velocity)
        torch.testing.assert_close(bias.detach(), expected)


def test_a_step_of_muon_is_orthogonal_for_the_convolutions(start: Start, digits: Dataset, trainer: Trainer) -> None:
    muon = changed(trainer, optimizer="muon", weight_decay=0.0)
    state, sgd = start(optimizer="muon"), start()
    before = weights(state.net)
    step(muon, state, *images_and_labels(digits), 0.1, 8)
    step(changed(trainer, weight_decay=0.0), sgd, *images_and_labels(digits), 0.1, 8)
    for name, value in weights(state.net).items():
        if value.dim() == 4:
            tall = max(1, len(value) / value[0].numel()) ** 0.5  # Muon's own factor for a matrix with more rows
            sizes = torch.linalg.svdvals((value - before[name]).flatten(1)) / 0.1 / tall
            assert 0.5 < sizes.median() < 1.3, name
            assert sizes.max() < 1.3, name
        else:
            torch.testing.assert_close(value, sgd.net.get_parameter(name))


def test_weight_decay_shrinks_the_convolutions_of_muon_outside_its_momentum(
    start: Start, digits: Dataset, trainer: Trainer
) -> None:
    before, after = weights(start(optimizer="muon").net), []
    for weight_decay in (0.0, 0.1):
        muon = changed(trainer, optimizer="muon", weight_decay=weight_decay)
        state = muon.start(digits, CustomResNetParams(network="custom_resnet", width=4, logit_scale=0.125), seed=0)
        step(muon, state, *images_and_labels(digits), 0.5, 8)
        after.append(weights(state.net))
    for name, value in after[0].items():
        if value.dim() == 4:
            torch.testing.assert_close(after[1][name] - value, -0.5 * 0.1 * before[name])


def test_muon_owns_every_convolution_of_resnet18(digits: Dataset, trainer: Trainer) -> None:
    model = ResNet18Params(network="resnet18", zero_init_residual=False)
    state = changed(trainer, optimizer="muon").start(digits, model, seed=0)
    matrices = state.optimizers[1].param_groups[0]["params"]
    of_muon = {matrix.data_ptr() for matrix in matrices}  # it updates them in the weights' memory
    assert of_muon == {weight.data_ptr() for weight in state.net.parameters() if weight.dim() == 4}


def test_muon_gives_a_warning_where_its_format_is_emulated(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for capabilities, count in (({"avx512_bf16": True}, 0), ({}, 1)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        start(optimizer="muon")
        assert capsys.readouterr().err.count("products are bf16, which this cpu has to emulate") == count


def test_early_epochs_train_on_smaller_images(start: Start, trainer: Trainer, data: TrainingData) -> None:
    state, sides = start(), list[int]()
    state.net.get_submodule("prep").register_forward_pre_hook(lambda module, inputs: sides.append(inputs[0].shape[-1]))
    list(changed(trainer, early_epochs=1, early_scale=0.75).epochs(state, data, lambda loss, num_steps: None))
    assert sides == [24, 24, 32, 32, 32, 32]  # in each of two epochs, two steps and the held-out images


def test_label_smoothing_gives_every_class_its_share(start: Start, digits: Dataset, trainer: Trainer) -> None:
    state = start()
    images, labels = images_and_labels(digits)
    log_probabilities = state.net(state.net.normalize(images)).log_softmax(dim=1)
    of_true_class = log_probabilities[range(8), labels].mean().item()
    of_all_classes = log_probabilities.mean().item()
    loss = step(changed(trainer, label_smoothing=0.2), state, images, labels, 0.1, 8)
    assert loss.item() == pytest.approx(-0.8 * of_true_class - 0.2 * of_all_classes)


def test_the_seed_chooses_the_initial_weights(
    tiny_params: Params, digits: Dataset, trainer: Trainer, start: Start
) -> None:
    other = trainer.start(digits, tiny_params.model, seed=1)
    first, again = start(), start()
    weights, same, different = (state.net.state_dict()["classifier.weight"] for state in (first, again, other))
    assert torch.equal(weights, same)
    assert not torch.equal(weights, different)


def test_held_out_figures_are_a_true_mean_over_all_images(
    data: TrainingData, digits: Dataset, compute: Compute, start: Start
) -> None:
    net = start().net.eval()
    loss_sum, num_correct = evaluate_held_out(net, data, compute)
    log_probabilities = net(net.normalize(torch.tensor(digits.test_images))).log_softmax(dim=1)
    labels = torch.tensor(digits.test_labels)
    assert loss_sum == pytest.approx(-log_probabilities[range(50), labels].sum().item())
    assert num_correct == (log_probabilities.argmax(dim=1) == labels).sum()


def test_held_out_validation_images_are_not_trained_on(tiny_params: Params, digits: Dataset) -> None:
    data = tiny_params.data.model_copy(update={"validation_images": 56})
    training_data = make_training_data(digits, data, tiny_params.augment)
    assert training_data.held_out_name == "validation"
    trained_on = {image.tobytes() for image in training_data.images}
    held_out = {image.tobytes() for image in training_data.held_out_images}
    assert len(trained_on | held_out) == 256
    assert len(held_out) == 56


def test_more_than_half_of_the_images_cannot_be_held_out(tiny_params: Params, digits: Dataset) -> None:
    data = tiny_params.data.model_copy(update={"validation_images": 129})
    with pytest.raises(UserError, match="validation_images is 129; with 256 training images it can be at most 128"):
        make_training_data(digits, data, tiny_params.augment)


def test_a_training_that_diverges_ends_with_what_to_change(start: Start, trainer: Trainer, data: TrainingData) -> None:
    diverging = replace(trainer, rates=LearningRates(1e3, 1e12))
    with pytest.raises(UserError) as error:
        list(diverging.epochs(start(), data, lambda loss, num_steps: None))
    assert str(error.value).startswith("training diverged in epoch ")
    assert str(error.value).endswith("; lower train.lr_max, or model.logit_scale if it is above 0.125")


@pytest.mark.parametrize("broken", ["classifier.weight", "prep.1.running_var"])
def test_weights_or_statistics_that_diverged_in_the_last_step_end_the_training(
    broken: str, start: Start, train: Train
) -> None:
    """No loss shows it: the training's ends before the step, and infinite statistics give finite logits."""
    state = start()

    def break_last(loss: Tensor, num_steps: int) -> None:
        if (state.epoch, state.step) == (1, num_steps):
            state.net.state_dict()[broken].fill_(torch.inf)

    finished = train(state, break_last)
    assert next(finished).epoch == 1
    with pytest.raises(UserError, match=f"diverged in epoch 2: {broken} is not finite at .*; lower train.lr_max"):
        next(finished)


def test_a_held_out_loss_that_overflows_ends_the_training(start: Start, train: Train) -> None:
    state = start()

    def overflow(loss: Tensor, num_steps: int) -> None:
        if state.step == num_steps:
            weights = state.net.state_dict()["classifier.weight"]
            weights.fill_(-3e38)
            weights[0] = 3e38

    with pytest.raises(UserError, match=r"diverged in epoch 1: the test loss is (nan|inf) at "):
        next(train(state, overflow))


def in_float16(trainer: Trainer) -> Trainer:
    return replace(trainer, compute=replace(trainer.compute, precision=torch.float16))


def set_scale(state: TrainingState, scale: float) -> None:
    state.scaler.load_state_dict(state.scaler.state_dict() | {"scale": scale, "growth_interval": 2})


def weights(net: Network) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.named_parameters()}


def test_in_float16_the_loss_is_scaled_for_gradients_and_not_for_the_step(
    tiny_params: Params, digits: Dataset, trainer: Trainer
) -> None:
    half, scaled = in_float16(trainer), list[Tensor]()
    exact, state = (kind.start(digits, tiny_params.model, seed=0) for kind in (trainer, half))
    expected, bias = (started.net.get_parameter("classifier.bias") for started in (exact, state))
    bias.register_hook(lambda gradient: scaled.append(gradient.clone()))
    for kind, started in ((trainer, exact), (half, state)):
        step(kind, started, *images_and_labels(digits), 0.1, 8)
    assert expected.grad is not None
    torch.testing.assert_close(scaled[0], 65536 * expected.grad, rtol=0.01, atol=1)
    torch.testing.assert_close(bias, expected, rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_in_float16_a_step_with_gradients_that_overflow_changes_no_weights_and_halves_the_scale(
    optimizer: str, tiny_params: Params, digits: Dataset, trainer: Trainer
) -> None:
    half = changed(in_float16(trainer), optimizer=optimizer)
    state = half.start(digits, tiny_params.model, seed=0)
    set_scale(state, 2.0**40)
    before = weights(state.net)
    step(half, state, *images_and_labels(digits), 0.1, 8)
    assert state.scaler.get_scale() == 2.0**39
    torch.testing.assert_close(weights(state.net), before, rtol=0, atol=0)


def test_in_float16_only_the_optimizer_whose_gradients_overflowed_skips_its_step(
    tiny_params: Params, digits: Dataset, trainer: Trainer
) -> None:
    half = changed(in_float16(trainer), optimizer="muon")
    state = half.start(digits, tiny_params.model, seed=0)
    state.net.get_parameter("prep.0.weight").register_hook(lambda gradient: gradient * torch.inf)
    before = weights(state.net)
    step(half, state, *images_and_labels(digits), 0.1, 8)
    for name, value in weights(state.net).items():
        assert value.equal(before[name]) == (value.dim() == 4), name


def test_a_training_begun_without_a_scale_continues_in_float16(
    tiny_params: Params, digits: Dataset, trainer: Trainer, start: Start
) -> None:
    """As with `precision: auto` on another machine."""
    resumed = in_float16(trainer).start(digits, tiny_params.model, seed=1)
    resumed.load_state_dict(start().state_dict())
    assert resumed.scaler.get_scale() == 65536


@pytest.mark.parametrize(
    ("position", "precision", "optimizer"),
    [
        ((0, 1), torch.float32, "sgd"),
        ((1, 0), torch.float32, "sgd"),
        ((1, 1), torch.float32, "sgd"),
        ((0, 1), torch.float16, "sgd"),
        ((0, 1), torch.float32, "muon"),
        ((0, 1), torch.float16, "muon"),
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    tiny_params: Params,
    digits: Dataset,
    trainer: Trainer,
    data: TrainingData,
    position: tuple[int, int],
    precision: torch.dtype,
    optimizer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = replace(trainer, compute=replace(trainer.compute, precision=precision))
    trainer = changed(trainer, optimizer=optimizer, early_epochs=1)
    checkpoint = Checkpoint("interrupted")
    checkpoint.folder.mkdir(parents=True)
    uninterrupted, resumed = (trainer.start(digits, tiny_params.model, seed=0) for _ in range(2))
    if precision is torch.float16:
        set_scale(uninterrupted, 2.0**26)  # the first step overflows

    def save(*_: object) -> None:
        if (uninterrupted.epoch, uninterrupted.step) == position:
            checkpoint.save(uninterrupted.state_dict())

    for _ in trainer.epochs(uninterrupted, data, after_step=save):
        save()
    saved = checkpoint.load()
    assert saved
    resumed.load_state_dict(saved)
    assert (resumed.epoch, resumed.step) == position
    assert len(list(trainer.epochs(resumed, data, after_step=lambda loss, num_steps: None))) == 2 - position[0]
    assert resumed.history == uninterrupted.history
    assert resumed.scaler.state_dict() == uninterrupted.scaler.state_dict()
    if precision is torch.float16:
        assert uninterrupted.scaler.get_scale() != 2.0**26, "else nothing was tested"
    expected = uninterrupted.net.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.net.state_dict().items())


@pytest.mark.parametrize(
    ("section", "name", "possible", "useless", "allowed"),
    [
        ("augment", "cutout", 31, 32, "images of 32 px: 0 to 31"),
        ("train", "batch_size", 256, 257, "there are 256 training images"),
        ("train", "early_scale", 0.25, 0.2, "images of 6 px; allowed: from 8 px, or no early epochs"),
    ],
)
def test_settings_that_leave_nothing_to_learn_are_refused_with_the_allowed_values(
    section: str, name: str, possible: float, useless: float, allowed: str, data: TrainingData, tiny_params: Params
) -> None:
    train = tiny_params.train.model_copy(update={"early_epochs": 1})
    sections: dict[str, Any] = {"train": train, "augment": tiny_params.augment}
    changed = {value: sections[section].model_copy(update={name: value}) for value in (possible, useless)}
    require_workable(data=data, **sections | {section: changed[possible]})
    with pytest.raises(UserError, match=rf"{section}.{name} is {useless}; .*{allowed}"):
        require_workable(data=data, **sections | {section: changed[useless]})


def test_with_layer_decay_each_layer_learns_at_a_share_of_the_rate_above_it(start: Start) -> None:
    state = start(layer_decay=0.5)
    set_learning_rate(state.optimizers, 0.8)
    rates = {id(weight): group["lr"] for group in state.optimizers[0].param_groups for weight in group["params"]}
    of_layers = [{rates[id(weight)] for weight in layer} for layer in state.net.layers()]
    assert of_layers == [{0.05}, {0.1}, {0.2}, {0.4}, {0.8}], "prep, layer1 to layer3, classifier"
    assert state.lr == 0.8


def test_what_a_training_starts_from_is_learnt_further_but_its_statistics_stay(
    start: Start, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = start().net.state_dict()
    other["prep.1.running_mean"] += 1
    other["prep.0.weight"] *= 2
    write_start(locations.START, other)
    state = start(start_from="mine.pt")
    assert torch.equal(state.net.state_dict()["prep.0.weight"], other["prep.0.weight"])
    list(train(state))
    learnt = state.net.state_dict()
    assert torch.equal(learnt["prep.1.running_mean"], other["prep.1.running_mean"])
    assert not torch.equal(learnt["prep.0.weight"], other["prep.0.weight"])
