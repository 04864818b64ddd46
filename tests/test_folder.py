"""`data.dataset: folder`: pictures of any kind become a data set, or an error says why not."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from PIL import Image, ImageOps
from playwright.sync_api import expect, sync_playwright
from ruamel.yaml import YAML
from sklearn.datasets import load_digits
from support.finished_pipeline import run_stages
from support.real_repro import all_runs, dvc
from test_ui_browser import ARGUMENTS, CHROMIUM

from image_classifier.data import Dataset
from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.params import Params, load_params
from image_classifier.project.recipes import overlay
from image_classifier.sources.image_files import read_image
from image_classifier.sources.making import make_dataset
from image_classifier.system.errors import UserError
from image_classifier.tracking.publication import publish
from pipeline.demo import RECIPE

MakeDataset = Callable[..., Dataset]
RED, BLUE = (200, 30, 30), (20, 40, 220)


def picture(path: Path, colour: tuple[int, ...] = RED, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def pictures(folder: Path, number: int = 10) -> Path:
    for index in range(number):
        picture(folder / "red" / f"{index}.png", (200, index, 0))
        picture(folder / "blue" / f"{index}.jpg", BLUE, (17 + index, 60))
    return folder


@pytest.fixture
def make(params: Params) -> MakeDataset:
    def make(folder: Path, **settings: object) -> Dataset:
        changes = {"dataset": "folder", "folder": str(folder), **settings}
        return make_dataset(params.data.model_copy(update=changes))

    return make


def test_one_folder_is_split_by_class_and_by_its_seed(make: MakeDataset, tmp_path: Path) -> None:
    dataset = make(pictures(tmp_path))
    assert dataset.classes == ("blue", "red")
    assert dataset.train_images.shape == (16, 32, 32, 3)
    assert np.bincount(dataset.test_labels).tolist() == [2, 2]
    assert np.all((dataset.train_images[..., 0].mean(axis=(1, 2)) > 100) == dataset.train_labels)  # red is class 1
    assert np.array_equal(make(tmp_path).test_images, dataset.test_images)
    assert not np.array_equal(make(tmp_path, split_seed=1).test_images, dataset.test_images)


def test_train_and_test_folders_are_taken_as_they_are(make: MakeDataset, tmp_path: Path) -> None:
    pictures(tmp_path / "train", 3)
    pictures(tmp_path / "test", 2)
    dataset = make(tmp_path, image_px=64)
    assert np.bincount(dataset.train_labels).tolist() == [3, 3]
    assert np.bincount(dataset.test_labels).tolist() == [2, 2]
    assert dataset.image_px == 64
    expected = dataset.train_images.reshape(-1, 3) / 255
    assert dataset.mean == pytest.approx(expected.mean(axis=0))
    assert dataset.std == pytest.approx(expected.std(axis=0))


def test_a_class_may_be_called_train(make: MakeDataset, tmp_path: Path) -> None:
    pictures(tmp_path / "vehicles")
    (tmp_path / "vehicles" / "red").rename(tmp_path / "vehicles" / "train")
    assert make(tmp_path / "vehicles").classes == ("blue", "train")


def test_pictures_in_which_dvc_sees_no_change_are_refused(
    make: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".dvcignore").write_text("/build\n*.jpg\n._*\n", encoding="utf-8")
    for folder, named in (("build/pictures", "blue/0.jpg"), ("pictures", "blue/0.jpg")):
        pictures(Path(folder))
        with pytest.raises(UserError, match=f"{folder}/{named} is named in .dvcignore"):
            make(Path(folder))
    for file in Path("pictures/blue").iterdir():
        file.rename(file.with_suffix(".jpeg"))
    (Path("pictures/blue") / "._0.jpeg").touch()
    assert make(Path("pictures")).classes == ("blue", "red")


def test_a_class_keeps_its_number_if_train_and_test_write_its_accent_in_two_ways(
    make: MakeDataset, tmp_path: Path
) -> None:
    for half, accent in (("train", "caf\u00e9"), ("test", "cafe\u0301")):  # beside "cafz", one sorts after, one before
        for name, colour in ((accent, RED), ("cafz", BLUE)):
            picture(tmp_path / half / name / "0.png", colour)
    dataset = make(tmp_path)
    assert dataset.classes == ("cafz", "caf\u00e9")
    for images, labels in (
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    ):
        assert [tuple(image[0, 0]) for image in images[np.argsort(labels)]] == [BLUE, RED]


def test_pictures_of_every_mode_and_orientation_are_read_upright(make: MakeDataset, tmp_path: Path) -> None:
    pictures(tmp_path)
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "I;16"):
        Image.new(mode, (50, 20)).save(tmp_path / "red" / f"mode {mode.replace(';', '')}.tiff")
    turned = Image.new("RGB", (64, 64), RED)
    turned.paste(BLUE, (0, 0, 64, 32))  # blue is above
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was held upside down
    turned.save(tmp_path / "red" / "turned.png", exif=exif)
    dataset = make(tmp_path, test_share=0.1)
    assert len(dataset.train_labels) + len(dataset.test_labels) == 28
    images = np.concatenate([dataset.train_images, dataset.test_images])
    assert any(tuple(image[0, 0]) == RED and tuple(image[31, 31]) == BLUE for image in images)


@pytest.mark.parametrize("number", range(1, 9))
def test_a_photo_of_any_orientation_is_read_as_it_is_viewed(number: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = number
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as photo:
        viewed = np.asarray(ImageOps.exif_transpose(photo))
    assert np.array_equal(read_image(tmp_path / "photo.png", 16), viewed)


def test_files_that_systems_leave_beside_pictures_are_ignored(make: MakeDataset, tmp_path: Path) -> None:
    for name in (".DS_Store", "red/.DS_Store", "red/._0.png", "red/Thumbs.db", "blue/desktop.ini", "README.txt"):
        (pictures(tmp_path) / name).write_text("x")
    assert len(make(tmp_path).train_labels) == 16


def test_all_broken_pictures_are_named_and_stop_the_stage_unless_they_may_be_left_out(
    make: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path)
    (tmp_path / "red" / "half.png").write_bytes((tmp_path / "red" / "0.png").read_bytes()[:60])
    (tmp_path / "blue" / "notes.txt").write_text("not a picture")
    with pytest.raises(UserError) as error:
        make(tmp_path)
    lines = str(error.value).splitlines()
    assert lines[0] == "2 of 22 pictures cannot be read:"
    assert "notes.txt" in lines[1]
    assert "half.png" in lines[2]
    assert lines[3] == "repair or remove them, or leave them out with data.broken_images: leave_out"
    assert len(make(tmp_path, broken_images="leave_out").train_labels) == 16
    assert "2 of 22 pictures cannot be read" in capsys.readouterr().err


def remove(path: Path, *, itself: bool = False) -> None:
    for file in path.iterdir():
        file.unlink()
    if itself:
        path.rmdir()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda root: remove(root / "red", itself=True), r"needs two or more classes.*it has 'blue'"),
        (lambda root: remove(root / "red"), "class 'red' has no pictures"),
        (lambda root: picture(root / "red" / "dark" / "0.png"), "red/dark is a folder inside a class"),
        (lambda root: picture(root / "Red" / "0.png"), "classes 'Red', 'red' differ only in case"),
        (
            lambda root: (picture(root / "caf\u00e9" / "0.png"), picture(root / "cafe\u0301" / "1.png")),
            "two folders 'café' that differ in Unicode form",
        ),
        (lambda root: picture(root / "a\nb" / "0.png"), r"class 'a\\nb' has a line break, tab or damaged character"),
        (lambda root: picture(root / "\udcff" / "0.png"), r"class '\\udcff' has a line break, tab or damaged"),
        (lambda root: (root / "green").symlink_to("red"), "green is a link to a folder, in which DVC sees no change"),
        (lambda root: picture(root / "stray.png"), r"stray.png lies beside the folders of the classes"),
        (lambda root: picture(root / "rare" / "0.png"), "set has no picture of 'rare'"),
        (lambda root: pictures(root / "train"), "there is no folder .*/test"),
        (
            lambda root: (pictures(root / "train"), pictures(root / "test"), picture(root / "test" / "new" / "0.png")),
            "train and test must have the same classes; only one of them has 'new'",
        ),
    ],
    ids=[
        "one class",
        "empty class",
        "inner folder",
        "case",
        "bytes",
        "line break",
        "no UTF-8",
        "link",
        "stray",
        "class missing in test",
        "no test",
        "differ",
    ],
)
def test_folders_that_make_no_data_set_are_refused_with_the_remedy(
    damage: Callable[[Path], object], reason: str, make: MakeDataset, tmp_path: Path
) -> None:
    damage(pictures(tmp_path / "images"))
    with pytest.raises(UserError, match=reason):
        make(tmp_path / "images")


def test_a_missing_folder_is_named_with_the_setting(make: MakeDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*missing: make it.*data\.folder"):
        make(tmp_path / "missing")


def test_a_folder_of_real_pictures_trains_to_95_percent_and_dvc_sees_every_change(workspace: Path) -> None:
    digits = load_digits()
    random = np.random.default_rng(0)
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        image = Image.fromarray((pixels * 15.9).astype(np.uint8)).resize(
            random.integers(24, 60, 2), Image.Resampling.BICUBIC
        )
        file = Path("images", f"the digit {label}, <b>by hand & 100% so", f"{index}.{('png', 'jpg')[index % 2]}")
        file.parent.mkdir(exist_ok=True)
        image.convert(("L", "RGB")[index % 3 % 2]).save(file, quality=95)
    recipe = YAML(typ="safe", pure=True).load(RECIPE)
    overlay(locations.PARAMS, recipe | {"data": {"dataset": "folder"}}, locations.PARAMS)
    dvc("repro", "evaluate")
    assert json.loads(locations.TEST_METRICS.read_text(encoding="utf-8"))["accuracy"] > 0.95
    (run,) = all_runs(workspace)
    assert run.data.metrics["evaluate/per_class/the digit 0_ _b_by hand _ 100_ so"] > 0.9
    assert sum(name.startswith("evaluate/per_class/") for name in run.data.metrics) == 10
    assert json.loads(dvc("status", "--json", "download")) == {}
    added = picture(file.with_name("new.png"))
    assert list(json.loads(dvc("status", "--json", "download"))) == ["download"]
    added.unlink()
    assert json.loads(dvc("status", "--json", "download")) == {}


@pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on the PATH to open the page with")
@pytest.mark.parametrize("num_classes", [2, 100])
def test_few_and_many_classes_with_names_of_40_characters_work_everywhere(num_classes: int, workspace: Path) -> None:
    digits = load_digits()
    names = sorted(f"digit {number % 10}, drawn by hand by writer no. {number:03}" for number in range(num_classes))
    assert {len(name) for name in names} == {40}
    count, batch_size = (60, 32) if num_classes == 2 else (6, 64)
    for name in names:
        digit, writer = int(name[6]), int(name[-3:]) // 10
        Path("images", name).mkdir()
        for index in np.flatnonzero(digits.target == digit)[writer * count :][:count]:
            Image.fromarray((digits.images[index] * 15.9).astype(np.uint8)).save(Path("images", name, f"{index}.png"))
    settings: dict[str, dict[str, Any]] = {
        "data": {"dataset": "folder", "image_px": 16, "test_share": 0.34},
        "model": {"width": 8},
        "lr_find": {"steps": 40, "smoothing": 0.8},
        "train": {"batch_size": batch_size, "lr_min": 0.01, "lr_max": 0.2},
    }
    overlay(locations.PARAMS, settings, locations.PARAMS)
    run_stages(load_params(locations.PARAMS))
    dvc("commit", "--force")
    publish(read_project())

    metrics = json.loads(locations.TEST_METRICS.read_text(encoding="utf-8"))
    assert list(metrics["per_class_accuracy"]) == names
    (run,) = all_runs(workspace)
    assert {f"evaluate/per_class/{name.replace(',', '_')}" for name in names} <= run.data.metrics.keys()

    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS).new_page()
        page.goto(locations.GRADCAM_PAGE.resolve().as_uri())
        expect(page.locator("h1")).to_contain_text(f"{metrics['accuracy']:.2%} right")
        assert page.locator("#true option").all_text_contents() == ["any", *names]

    command = [sys.executable, "-m", "pipeline.predict", f"images/{names[1]}", "--top", "1", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = [json.loads(line)["predictions"][0]["class"] for line in done.stdout.splitlines()]
    assert len(answers) == count
    assert set(answers) <= set(names)
    mlflow.set_tracking_uri(f"sqlite:///{workspace}/mlruns/mlflow.db")
    served = mlflow.pyfunc.load_model("models:/cifar10-resnet@champion")
    (ranked,) = served.predict([base64.b64encode(Path("images", name, f"{index}.png").read_bytes()).decode()])
    assert sorted(answer["class"] for answer in ranked) == names
