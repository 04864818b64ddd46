"""Predictions for any image files."""

import csv
import json
import os
import runpy
import shutil
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.settings import change

from image_classifier.data import load_dataset
from image_classifier.model.model_file import save_model
from image_classifier.model.network import make_network
from image_classifier.project import locations
from image_classifier.project.hashing import file_md5
from image_classifier.project.params import Params, ResNet18Params, load_params
from image_classifier.sources.image_files import read_image
from image_classifier.system.errors import UserError
from pipeline import evaluate, predict


@pytest.fixture
def settings(two_pictures: Path) -> Params:
    return load_params(locations.PARAMS)


def run_predict(
    params: Params, *images: Path, top: int | None = None, as_format: str = "table", gradcam: Path | None = None
) -> None:
    options = Namespace(images=list(images), top=top, format=as_format, gradcam=gradcam)
    predict.run(options, params)


def test_an_image_of_the_networks_own_size_is_left_as_it_is(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    np.testing.assert_array_equal(read_image(tmp_path / "image.png", 32), image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"])
@pytest.mark.parametrize("size", [(1, 1), (20, 300), (500, 400)])
def test_images_of_any_size_and_mode_are_read(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    suffix = {"CMYK": "jpg", "YCbCr": "jpg"}.get(mode, "png")
    source = Image.new("RGB", size, (200, 200, 200))
    image = Image.fromarray(np.full(size[::-1], 200 * 257, np.uint16)) if mode == "I;16" else source.convert(mode)
    image.save(tmp_path / f"image.{suffix}")
    seen = read_image(tmp_path / f"image.{suffix}", 32)
    assert seen.shape == (32, 32, 3)
    assert seen.dtype == np.uint8
    assert abs(seen.mean() - 200) < (60 if mode == "1" else 5)  # a palette rounds, and one bit a pixel dithers


def test_a_pgm_of_16_bits_keeps_its_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32), 200 * 257, np.uint16)).save(tmp_path / "scan.pgm")
    assert (read_image(tmp_path / "scan.pgm", 32) == 200).all()


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 64), "black")
    image.paste("white", (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    image.save(tmp_path / "photo.jpg", exif=exif)
    seen = read_image(tmp_path / "photo.jpg", 32)
    assert seen[:, 20:].mean() > 200
    assert seen[:, :12].mean() < 50


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png", 32) == 255).all()


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_text("meow")
    with pytest.raises(UserError, match=r"cat\.jpg is no image"):
        read_image(path, 32)


def test_postscript_is_refused_whatever_its_name(tmp_path: Path) -> None:
    """Pillow would start another program, Ghostscript, to read it."""
    Image.new("RGB", (32, 32)).save(tmp_path / "cat.eps")
    (tmp_path / "cat.eps").rename(tmp_path / "cat.jpg")
    with pytest.raises(UserError, match=r"cat\.jpg is no image"):
        read_image(tmp_path / "cat.jpg", 32)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_an_image_whose_range_is_unknown_is_refused(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.full((32, 32), 200, dtype)).save(tmp_path / "depth.tiff")
    with pytest.raises(UserError, match=r"depth\.tiff has 32 bits a pixel"):
        read_image(tmp_path / "depth.tiff", 32)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_a_truncated_image_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"cut.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=rf"cut\.{kind} cannot be read|cut\.{kind} is no image"):
        read_image(path, 32)


@pytest.mark.parametrize("side", [40, 50])  # Pillow warns from the limit on and refuses from twice the limit on
def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"bomb\.png has more than 1,000 pixels"):
        read_image(tmp_path / "bomb.png", 32)


def test_a_folder_gives_its_images_by_name(two_pictures: Path) -> None:
    assert predict.find_images([two_pictures, two_pictures / "7.png"]) == [
        two_pictures / "3.png",
        two_pictures / "7.png",
        two_pictures / "7.png",
    ]


def test_a_folder_without_images_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no image file"):
        predict.find_images([tmp_path])
    with pytest.raises(UserError, match=r"gone\.png does not exist"):
        predict.find_images([tmp_path / "gone.png"])


def test_the_probabilities_are_those_of_evaluate(
    two_pictures: Path, settings: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    run_predict(settings, two_pictures, top=10, as_format="json")
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = pd.read_csv(locations.PREDICTIONS, dtype={"predicted": str})
    for index, answer in zip((3, 7), answers, strict=True):
        assert answer["image"] == f"pictures/{index}.png"
        assert answer["predictions"][0]["class"] == expected.loc[index, "predicted"]
        for prediction in answer["predictions"]:
            assert prediction["probability"] == pytest.approx(expected.loc[index, f"p_{prediction['class']}"], abs=1e-5)
        probabilities = [prediction["probability"] for prediction in answer["predictions"]]
        assert probabilities == sorted(probabilities, reverse=True)


def test_an_empty_path_is_not_taken_for_this_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", ""])
    monkeypatch.delitem(sys.modules, "pipeline.predict", raising=False)
    with pytest.raises(SystemExit):
        runpy.run_module("pipeline.predict", run_name="__main__")
    assert "argument IMAGE_OR_FOLDER: the path is empty" in capsys.readouterr().err


def test_folders_are_searched_with_their_subfolders_for_pictures_that_are_not_hidden(tmp_path: Path) -> None:
    for name in ("b/c.JPG", "a.png", "._a.png", ".cache/d.png", "weights.h5", "film.mpg", "e.eps", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert predict.find_images([tmp_path]) == [tmp_path / "a.png", tmp_path / "b" / "c.JPG"]


def test_a_photo_with_unusual_exif_data_is_read(tmp_path: Path) -> None:
    """Pillow writes EXIF data again when it turns a photo upright; this fails for some that it can read (#8965)."""
    image = Image.new("RGB", (64, 32), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "photo.jpg", exif=exif)
    content = (tmp_path / "photo.jpg").read_bytes()
    orientation = content.index(b"\x01\x12\x00\x03")
    (tmp_path / "photo.jpg").write_bytes(content[: orientation + 2] + b"\x00\x63" + content[orientation + 4 :])
    assert read_image(tmp_path / "photo.jpg", 32).shape == (32, 32, 3)


def test_each_bad_file_is_named_and_the_others_are_predicted(
    two_pictures: Path, settings: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    (two_pictures / "5\n\x1b[31m.png").write_text("meow")
    os.mkfifo(two_pictures / "6.png")
    for name, content in {"cut.png": (two_pictures / "3.png").read_bytes()[:300], "empty.png": b""}.items():
        (two_pictures / name).write_bytes(content)
    with pytest.raises(UserError, match="4 of 6 images could not be used, each for the reason above"):
        run_predict(settings, two_pictures)
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["pictures/3.png", "pictures/7.png"]
    model, *errors = printed.err.splitlines()
    assert model == "model: models/model.pt"
    assert errors[0].startswith(r"error: pictures/5\n\x1b[31m.png is no image")
    assert [error.split()[1] for error in errors[1:]] == ["pictures/6.png", "pictures/cut.png", "pictures/empty.png"]
    assert "is no regular file" in errors[1]


def test_arguments_are_checked_before_a_picture_is_read(two_pictures: Path, settings: Params) -> None:
    (two_pictures / "3.png").write_text("meow")
    for mistake, message in (
        ({"top": 11}, "--top is 11"),
        ({"gradcam": two_pictures / "7.png"}, "--gradcam pictures/7.png"),
    ):
        with pytest.raises(UserError, match=message):
            run_predict(settings, two_pictures, **mistake)
    with pytest.raises(UserError, match=r"/xx.*…x+ cannot be read \(File name too long\)"):
        predict.find_images([Path("/" + 5000 * "x")])


def test_a_table_for_other_programs_has_a_header(
    two_pictures: Path, settings: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    (two_pictures / "3.png").rename(two_pictures / '3,"\n.png')
    run_predict(settings, two_pictures, top=2, as_format="csv")
    header, first, _ = csv.reader(capsys.readouterr().out.splitlines())
    assert header == ["image", "unsure", "class_1", "probability_1", "class_2", "probability_2"]
    assert first[0] == 'pictures/3,"\\n.png'
    assert first[1] == ""
    assert float(first[3]) >= float(first[5])


def test_below_the_threshold_that_evaluate_found_an_answer_is_unsure(
    two_pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(data={"validation_images": 300}, evaluate={"wanted_accuracy": 0.85})
    settings = load_params(locations.PARAMS)
    evaluate.run(settings.data, settings.evaluate, settings.compute)
    ran_with = locations.INPUTS / "evaluate.json"
    ran_with.parent.mkdir()
    ran_with.write_text(json.dumps({"files": {"models/model.pt": file_md5(locations.MODEL)}}))
    found = json.loads(locations.TEST_METRICS.read_text(encoding="utf-8"))["unsure"]
    assert 0 < found["answered"] < 1
    assert found["accuracy"] > 0.8
    capsys.readouterr()

    run_predict(settings, two_pictures, as_format="json")
    for answer in map(json.loads, capsys.readouterr().out.splitlines()):
        assert answer["unsure"] is (answer["predictions"][0]["probability"] <= found["threshold"])

    ran_with.write_text(json.dumps({"files": {"models/model.pt": "of other weights"}}))
    run_predict(settings, two_pictures, as_format="json")
    assert '"unsure": null' in capsys.readouterr().out


def test_in_csv_two_long_paths_never_get_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    for path in (Path(f"{100 * 'a'}{middle}{150 * 'b'}.png") for middle in "cd"):
        predict.write_row("csv", path, [("cat", 0.9)], False, [])
    first, second = csv.reader(capsys.readouterr().out.splitlines())
    assert first != second


def test_a_model_of_two_classes_shows_both(
    two_pictures: Path, settings: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    net = make_network(settings.model, 2, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    digits = load_dataset(locations.DATA / "digits")
    save_model(locations.MODEL, net, settings.model, replace(digits, classes=("cat", "dog")))
    run_predict(settings, two_pictures, as_format="json")
    shown = [json.loads(line)["predictions"] for line in capsys.readouterr().out.splitlines()]
    assert [{one["class"] for one in each} for each in shown] == [{"cat", "dog"}] * 2


def test_only_certainty_is_called_0_or_100_percent(capsys: pytest.CaptureFixture[str]) -> None:
    predict.write_row("table", Path("a.png"), [("cat", 0.9999), ("dog", 0.0001)], False, [5, 10, 10])
    assert capsys.readouterr().out == "a.png  cat >99.9%  dog <0.1%\n"


def test_an_unsure_answer_says_so_before_its_best_guess(capsys: pytest.CaptureFixture[str]) -> None:
    ranked = [("cat", 0.6), ("dog", 0.4)]
    for kind in ("table", "csv", "json"):
        predict.write_row(kind, Path("a.png"), ranked, True, [5, 17, 10])
    assert capsys.readouterr().out.splitlines() == [
        "a.png  unsure: cat 60.0%  dog 40.0%",
        "a.png,True,cat,0.6,dog,0.4",
        '{"image": "a.png", "unsure": true, "predictions": [{"class": "cat", "probability": 0.6}, '
        '{"class": "dog", "probability": 0.4}]}',
    ]


def test_an_accuracy_that_no_confidence_reaches_is_one_line(two_pictures: Path) -> None:
    change(data={"validation_images": 700}, evaluate={"wanted_accuracy": 0.99})
    settings = load_params(locations.PARAMS)
    with pytest.raises(UserError, match=r"wanted_accuracy is 0.99, and 700 held-out images show that at no confidence"):
        evaluate.run(settings.data, settings.evaluate, settings.compute)


def test_many_pictures_take_no_more_memory_and_keep_their_order(
    two_pictures: Path, settings: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(600):  # more than a batch
        (two_pictures / f"{number:03}.png").hardlink_to(two_pictures / ("3.png" if number % 2 else "7.png"))
    shown = {}
    run_predict(settings, two_pictures, top=1)
    for line in capsys.readouterr().out.splitlines():
        path, *prediction = line.split()
        shown[Path(path).name] = prediction
    assert len(shown) == 602
    assert all(shown[f"{n:03}.png"] == shown["3.png" if n % 2 else "7.png"] for n in range(600))
    assert list(shown) == sorted(shown)


def test_the_model_file_is_all_that_predict_needs(
    two_pictures: Path, settings: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    run_predict(settings, two_pictures, as_format="json")
    before = capsys.readouterr().out
    shutil.rmtree(locations.DATA)
    other = settings.model_copy(update={"model": ResNet18Params(network="resnet18", zero_init_residual=True)})
    run_predict(other, two_pictures, as_format="json")
    assert capsys.readouterr().out == before


def test_without_a_model_the_demos_is_used(
    two_pictures: Path, settings: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    run_predict(settings, two_pictures)
    before = capsys.readouterr().out
    locations.DEMO.mkdir(parents=True)
    locations.MODEL.parent.rename(locations.DEMO / locations.MODEL.parent)
    run_predict(settings, two_pictures)
    assert capsys.readouterr() == (before, "model: build/demo/models/model.pt\n")


def test_user_mistakes_get_one_line(two_pictures: Path, settings: Params) -> None:
    with pytest.raises(UserError, match="--top is 11; allowed: 1 to 10"):
        run_predict(settings, two_pictures, top=11)

    locations.MODEL.write_text("weights")
    with pytest.raises(UserError, match=r"model\.pt is damaged or no model"):
        run_predict(settings, two_pictures)

    locations.MODEL.unlink()
    with pytest.raises(UserError, match=r"model\.pt is missing, .* `make demo` trains one"):
        run_predict(settings, two_pictures)
