"""Predictions for any image files."""

import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT
from evaluated_digits import write_project
from PIL import Image

from cifar_resnet import layout
from cifar_resnet.data import load_dataset
from cifar_resnet.errors import UserError
from cifar_resnet.params import Params, load_params
from cifar_resnet.prediction import find_images, read_images
from pipeline import predict


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a trained network, and two of its test images in `pictures/`."""
    folder = tmp_path_factory.mktemp("trained")
    write_project(folder)
    (folder / "pictures").mkdir()
    images = load_dataset(folder / layout.DATA / "digits").test_images
    for index in (3, 7):
        Image.fromarray(images[index]).save(folder / "pictures" / f"{index}.png")
    (folder / "pictures" / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that project, as the working directory; returns the path of the pictures in it."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("pictures")


@pytest.fixture
def settings(project: Path) -> Params:
    return load_params(layout.PARAMS)


def run_predict(
    params: Params, *images: Path, top: int = 3, as_json: bool = False, gradcam: Path | None = None
) -> None:
    options = Namespace(images=list(images), top=top, json=as_json, gradcam=gradcam)
    predict.run(options, params)


def read(path: Path) -> np.ndarray:
    (image,) = read_images([path])
    return image


def test_an_image_of_the_networks_own_size_is_left_as_it_is(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    np.testing.assert_array_equal(read(tmp_path / "image.png"), image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"])
@pytest.mark.parametrize("size", [(1, 1), (20, 300), (500, 400)])
def test_images_of_any_size_and_mode_are_read(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    suffix = {"CMYK": "jpg", "YCbCr": "jpg"}.get(mode, "png")
    source = Image.new("RGB", size, (200, 200, 200))
    image = Image.fromarray(np.full(size[::-1], 200 * 257, np.uint16)) if mode == "I;16" else source.convert(mode)
    image.save(tmp_path / f"image.{suffix}")
    seen = read(tmp_path / f"image.{suffix}")
    assert seen.shape == (32, 32, 3)
    assert seen.dtype == np.uint8
    assert abs(seen.mean() - 200) < (60 if mode == "1" else 5)  # a palette rounds, and one bit a pixel dithers


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 64), "black")
    image.paste("white", (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    image.save(tmp_path / "photo.jpg", exif=exif)
    seen = read(tmp_path / "photo.jpg")
    assert seen[:, 20:].mean() > 200
    assert seen[:, :12].mean() < 50


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read(tmp_path / "clear.png") == 255).all()


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_text("meow")
    with pytest.raises(UserError, match=r"cat\.jpg is no image"):
        read(path)


def test_postscript_is_refused_whatever_its_name(tmp_path: Path) -> None:
    """Pillow would start Ghostscript, a program of its own, on it."""
    Image.new("RGB", (32, 32)).save(tmp_path / "cat.eps")
    (tmp_path / "cat.eps").rename(tmp_path / "cat.jpg")
    with pytest.raises(UserError, match=r"cat\.jpg is no image"):
        read(tmp_path / "cat.jpg")


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_an_image_whose_range_is_unknown_is_refused(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.full((32, 32), 200, dtype)).save(tmp_path / "depth.tiff")
    with pytest.raises(UserError, match=r"depth\.tiff has 32 bits a pixel"):
        read(tmp_path / "depth.tiff")


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_a_truncated_image_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"cut.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=rf"cut\.{kind} cannot be read|cut\.{kind} is no image"):
        read(path)


@pytest.mark.parametrize("side", [40, 50])  # Pillow warns from the limit on and refuses from twice the limit on
def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"bomb\.png has more than 1,000 pixels"):
        read(tmp_path / "bomb.png")


def test_a_folder_gives_its_images_by_name(project: Path) -> None:
    assert find_images([project, project / "7.png"]) == [project / "3.png", project / "7.png", project / "7.png"]


def test_a_folder_without_images_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no image file"):
        find_images([tmp_path])
    with pytest.raises(UserError, match=r"gone\.png does not exist"):
        find_images([tmp_path / "gone.png"])


def test_the_probabilities_are_those_of_evaluate(
    project: Path, settings: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    run_predict(settings, project, top=10, as_json=True)
    answers = json.loads(capsys.readouterr().out)
    expected = pd.read_csv(layout.PREDICTIONS, dtype={"predicted": str})
    for index, answer in zip((3, 7), answers, strict=True):
        assert answer["image"] == f"pictures/{index}.png"
        assert answer["predictions"][0]["class"] == expected.loc[index, "predicted"]
        for prediction in answer["predictions"]:
            assert prediction["probability"] == pytest.approx(expected.loc[index, f"p_{prediction['class']}"], abs=1e-5)
        probabilities = [prediction["probability"] for prediction in answer["predictions"]]
        assert probabilities == sorted(probabilities, reverse=True)


def test_the_command_prints_a_line_per_image_and_writes_overlays(project: Path) -> None:
    command = [sys.executable, "-m", "pipeline.predict", "pictures", "--top", "2", "--gradcam", "heat"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(PROJECT)}, stdout=subprocess.PIPE, text=True, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["pictures/3.png", "pictures/7.png"]
    assert all(len(row) == 5 and row[2].endswith("%") and row[4].endswith("%") for row in rows)
    assert sorted(path.name for path in Path("heat").iterdir()) == ["0001_3.png", "0002_7.png"]
    with Image.open("heat/0001_3.png") as picture, Image.open(project / "3.png") as original:
        assert picture.size == (512, 256)
        left = np.asarray(picture.crop((0, 0, 256, 256)).resize((32, 32), Image.Resampling.NEAREST))
        np.testing.assert_array_equal(left, np.asarray(original))


def test_user_mistakes_get_one_line(project: Path, settings: Params) -> None:
    with pytest.raises(UserError, match="--top is 11; allowed: 1 to 10"):
        run_predict(settings, project, top=11)

    wider = settings.model_copy(update={"model": settings.model.model_copy(update={"width": 8})})
    with pytest.raises(UserError, match=r"model\.pt does not fit the network of params\.yaml"):
        run_predict(wider, project)

    for locked, reason in {
        "data.dataset: cifar10": "was trained with data.dataset cifar10, but params.yaml has digits: set it to cifar10",
        "model: {logit_scale: 1.0}": "was trained with model.logit_scale 1.0, but params.yaml has 0.125: set it to 1.0",
    }.items():
        Path("dvc.lock").write_text(f"stages: {{train: {{params: {{params.yaml: {{{locked}}}}}}}}}")
        with pytest.raises(UserError, match=reason):
            run_predict(settings, project)
    Path("dvc.lock").write_text("<<<<<<< HEAD")
    with pytest.raises(UserError, match=r"dvc\.lock is broken"):
        run_predict(settings, project)
    Path("dvc.lock").unlink()

    layout.MODEL.unlink()
    with pytest.raises(UserError, match=r"model\.pt is missing"):
        run_predict(settings, project)
