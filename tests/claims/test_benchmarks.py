"""How `make bench` measures, and what it computes from the measurements."""

import csv
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from support.finished_pipeline import run_download
from support.project import make_digits
from support.real_repro import all_runs
from torch import nn

from benchmarks import many_seeds, recipe, screen, time_to_accuracy
from benchmarks.figures import summarize
from benchmarks.measurements import CONTENDERS, OURS, PLAIN, STAGES, TUNED, Bench
from benchmarks.peers.task import Task
from benchmarks.stopwatch import CommandError, Observation, observe
from benchmarks.table import as_markdown
from benchmarks.workspace import Size, environment, find_images
from image_classifier.data import save_dataset
from image_classifier.outputs.history import EpochMetrics
from image_classifier.outputs.rates import FoundRates, read_found_rates
from image_classifier.project import locations

BUSY = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def run(code: str, until: str | None = None) -> Observation:
    return observe([sys.executable, "-c", code], Path.cwd(), os.environ, until)


def test_a_line_is_stamped_with_the_time_it_came_at() -> None:
    seen = run(f"print('before', flush=True)\n{BUSY}print('after', flush=True)")
    spent = seen.times("after")[0] - seen.times("before")[0]
    assert 0.25 < spent.cpu < 0.5
    assert spent.wall > 0.25
    assert seen.total.cpu >= seen.times("after")[0].cpu - 0.02  # /proc counts in hundredths of a second


def test_the_time_of_child_processes_counts() -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}]); print('done', flush=True)"
    assert run(child).times("done")[0].cpu > 0.25


def test_the_memory_of_child_processes_counts() -> None:
    child = "data = b'x' * 300_000_000; print('child', flush=True); import time; time.sleep(60)"
    code = (
        "import subprocess, sys, time\n"
        "ended = subprocess.Popen([sys.executable, '-c', ''])\n"  # a zombie by then, which has no memory
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "time.sleep(60)"
    )
    assert 300e6 < run(code, until="child").peak_bytes < 400e6


def test_an_observation_may_end_early_and_leaves_no_process_behind() -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('child', child.pid, flush=True); time.sleep(60)"
    )
    seen = run(code, until="child")
    assert seen.total.wall < 30
    pid = int(seen.rest("child "))
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_command_that_fails_or_never_prints_the_awaited_line_is_an_error_with_its_output() -> None:
    with pytest.raises(CommandError, match="out of cheese"):
        run("import sys; sys.exit('out of cheese')")
    with pytest.raises(CommandError, match="ended with 0"):
        run("print('nothing of interest')", until="Loss=")


def test_a_progress_bar_that_redraws_itself_does_not_hide_a_line() -> None:
    assert run(r"print('50 %\r99 %\rLoss=1')").times("Loss=")


def test_this_project_and_both_loops_are_measured_in_the_same_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("CIFAR10_SOURCE", raising=False)
    (tmp_path / ".dvc").mkdir()  # as the project that the bench runs in has it
    bench = Bench(tmp_path, find_images()[1])
    size = Size(batch_size=8, width=4, steps=2, epochs=1)
    for name in (OURS, PLAIN, TUNED, OURS):  # a second round of the product starts from the beginning
        lap = bench.contender(name, size)
        assert lap["epoch"]["wall"] > 2 * lap["step"]["wall"] > 0  # two steps and an evaluation
        assert lap["peak_bytes"] > 100e6


def test_the_peers_use_pytorchs_own_convolution() -> None:
    dataset = make_digits(seed=0)
    net = Task(dataset, width=4, batch_size=8, epochs=1).make_network()
    assert Counter(type(module) for module in net.modules() if isinstance(module, nn.Conv2d)) == {nn.Conv2d: 8}


def test_ratios_are_taken_within_a_round_and_their_median_is_shown() -> None:
    # The machine is twice as slow in the second round, which changes no ratio.
    rounds = [one_round(slowness=1, ours=3.0), one_round(slowness=2, ours=4.0), one_round(slowness=1, ours=5.0)]
    figures = summarize(rounds, PARTS, batch_size=100)
    ours = figures["contenders"][OURS]
    assert ours["step_cpu_ratio"] == pytest.approx({TUNED: 0.4, PLAIN: 0.4})
    assert ours["step_wall_ratio"] == pytest.approx({TUNED: 0.4, PLAIN: 0.4})
    assert ours["step_cpu_seconds"] == 5.0
    assert ours["images_per_second"] == 20.0
    assert figures["contenders"][PLAIN]["step_cpu_ratio"][PLAIN] == 1.0
    about = {
        "cores": 2,
        "cpu": "a CPU",
        "python": "3",
        "packages": {"torch": "2"},
        "images": "random images",
        "commit": "c0ffee",
        "training": {"batch_size": 100},
    }
    row = "| this project (cpu, bf16, 2 threads) | 5.00 | 20 | 1.0 | 0.40 |"
    assert row in as_markdown(about, figures)


def test_time_and_memory_in_proportion_to_the_work_lie_on_a_straight_line() -> None:
    figures = summarize([one_round(slowness=1, ours=3.0)], PARTS, batch_size=100)
    assert figures["growth"]["r_squared"] == pytest.approx(1)
    assert figures["growth"]["largest_deviation"] == pytest.approx(0, abs=1e-9)
    assert figures["growth"]["cpu_seconds_per_image"] == pytest.approx(0.01)
    assert figures["peak_memory"]["bytes_per_image"] == pytest.approx(1e6)
    assert figures["peak_memory"]["bytes_at_rest"] == pytest.approx(5e8)


def test_the_overhead_of_a_stage_is_a_share_of_its_steps() -> None:
    overhead = summarize([one_round(slowness=1, ours=3.0)], PARTS, batch_size=100)["overhead"]
    assert overhead["data_and_loop"] == pytest.approx(0.01)
    assert overhead["checkpoints"] == pytest.approx(2 * 0.98 / 98)
    assert overhead["logging"] == pytest.approx(0.98 / 98)
    assert overhead["start_and_finish"] == pytest.approx(24 / (24 * 98))
    assert overhead["evaluation"] == pytest.approx(9.8 / 98)
    assert overhead["all_but_evaluation"] == pytest.approx(0.01 + 0.02 + 0.01 + 1 / 98)


def both(seconds: float) -> dict[str, float]:
    return {"wall": seconds, "cpu": seconds}


def one_round(slowness: float, ours: float) -> dict[str, object]:
    laps = dict.fromkeys(CONTENDERS, 10.0) | {OURS: ours}
    return {
        "contenders": {
            name: {
                "step": both(seconds * slowness),
                "epoch": both(3 * seconds * slowness),
                "peak_bytes": 1e9,
                "compute": "cpu, bf16, 2 threads",
            }
            for name, seconds in laps.items()
        },
        "products": {
            "flops_per_image": 1e9,
            "flops_per_second": {"float32": 1e11, "float32, oneDNN": 2e11, "bfloat16": 4e11},
        },
        "start_up": dict.fromkeys(STAGES, both(1.0)),
    }


PARTS = {
    "overhead": {
        "bare_step": 1.0,
        "loop_over_bare": 1.01,
        "checkpoint": 0.98,
        "logging": 0.98,
        "evaluated_image": 9.8e-4,
    },
    "growth": [
        {"images": [100, 200], "cpu": [3.0, 4.0], "start": both(20.0), "finish": both(4.0)},
        {"images": [300, 600], "cpu": [5.0, 8.0], "start": both(20.0), "finish": both(4.0)},
    ],
    "memory": {"100": 600_000_000, "200": 700_000_000, "400": 900_000_000},
    "input_pipeline": {"this project": 10_000.0},
    "no_op": [both(1.0)],
}


def test_every_variant_of_the_recipe_is_trained_and_becomes_a_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = workspace / "ladder.csv"
    for name, value in {"SEEDS": (3,), "JUDGED_BY": 100, "EPOCHS": 1, "WIDTH": 4, "RESULTS": results}.items():
        monkeypatch.setattr(recipe, name, value)
    monkeypatch.setattr(recipe, "PARTS", {"no CutOut": {"augment": {"cutout": 0}}})
    run_download()
    locations.LR_FOUND.parent.mkdir(parents=True)
    FoundRates(0.002, 0.02, "valley", {"descent_start": 0.002, "valley": 0.02}).write_json(locations.LR_FOUND)

    for _ in range(2):  # the second call finds all results
        recipe.main()
    rows = list(csv.DictReader(results.read_text().splitlines()))
    assert [(row["variant"], row["seed"], row["epoch"]) for row in rows] == [
        ("valley", "3", "1"),
        ("no CutOut", "3", "1"),
    ]
    found = {run.info.run_name: run for run in all_runs(workspace)}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["no CutOut-seed3"].data.params["augment.cutout"] == "0"
    assert f"{found['valley-seed3'].data.metrics['epoch/validation_accuracy']:.4f}" == rows[0]["validation_accuracy"]


def test_many_seeds_are_trained_side_by_side_at_the_rates_that_one_sweep_found(workspace: Path) -> None:
    run_download()
    many_seeds.main("default", 2, 1, workspace / "found")
    rows = list(csv.DictReader((workspace / "found" / "history.csv").read_text().splitlines()))
    assert [(row["seed"], row["epoch"]) for row in rows] == [("0", "1"), ("0", "2"), ("1", "1"), ("1", "2")]
    assert len({row["train_loss"] for row in rows}) == 4
    found = read_found_rates(workspace / "found" / "lr_find" / "lr_find.json")
    assert found.lr_min < float(rows[-1]["lr"]) < found.lr_max


def test_the_design_of_the_screen_tells_all_effects_apart_even_if_trainings_are_missing() -> None:
    planted = {name: number / 100 for number, name in enumerate(screen.FACTORS)}
    rows = []
    for levels in screen.design()[:26]:
        gain = sum(level / 2 * effect for level, effect in zip(levels, planted.values(), strict=True))
        accuracy = 0.93 + gain / 100
        rows.append(
            {name: str(level) for name, level in zip(planted, levels, strict=True)}
            | {"validation_accuracy": str(accuracy)}
        )
    found = screen.effects(rows)
    assert {name: effect for name, (effect, _) in found.items()} == pytest.approx(planted, abs=1e-6)


def test_pages_recipe_is_timed_after_every_epoch(workspace: Path) -> None:
    digits = make_digits(seed=0)
    few = replace(digits, train_images=digits.train_images[:600], train_labels=digits.train_labels[:600])
    save_dataset(few, workspace / "few")
    command = time_to_accuracy.page(workspace / "few", 4, 2)
    time_to_accuracy.main(command, environment(workspace / "store"), len(few.test_labels), workspace / "time.csv")
    rows = list(csv.DictReader((workspace / "time.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(0 <= float(row["test_accuracy"]) <= 1 for row in rows)
    assert 0 < float(rows[0]["cpu_minutes"]) <= float(rows[1]["cpu_minutes"])


def test_a_training_of_this_project_is_timed_by_the_lines_that_it_prints(tmp_path: Path) -> None:
    metrics = EpochMetrics(1, 0.1, 0.5, 0.8, 0.4, 0.9, "test")
    program = (
        "from types import SimpleNamespace as S; from image_classifier.tracking.console import TrainingConsole; "
        "from image_classifier.outputs.history import EpochMetrics; "
        f"TrainingConsole(S(), 50).after_epoch({metrics!r})"
    )
    time_to_accuracy.main([sys.executable, "-c", program], environment(tmp_path), 50, tmp_path / "time.csv")
    (row,) = csv.DictReader((tmp_path / "time.csv").read_text().splitlines())
    assert (row["epoch"], row["test_accuracy"]) == ("1", "0.9")
