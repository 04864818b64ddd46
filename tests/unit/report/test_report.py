"""The report page and the stage that makes it; how it behaves in a browser is in test_report_browser.py."""

import base64
import hashlib
import inspect
import io
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image
from support.project import copy_project
from support.reports import HOSTILE, make_report

from image_classifier.data import load_dataset
from image_classifier.evaluation.predictions import read_predictions
from image_classifier.project import locations
from image_classifier.project.params import Params, load_params
from image_classifier.report.model_card import render_model_card
from image_classifier.report.pages import LARGEST_PX, sheet_columns
from pipeline import gradcam_report


class Page(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def sheets(html: str) -> list[Image.Image]:
    """The sprite sheets: images, heat for the predicted and for the true class."""
    encoded = re.findall(r'url\("data:image/\w+;base64,([^"]+)"\)', html)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in encoded]


def tiles(sheet: Image.Image, count: int) -> np.ndarray:
    pixels = np.asarray(sheet)
    across = pixels.shape[1] // 32
    places = (divmod(number, across) for number in range(count))
    return np.stack([pixels[32 * row : 32 * row + 32, 32 * column : 32 * column + 32] for row, column in places])


@pytest.fixture
def run_stage(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that runs the stage, in a project where it is the next one; this is the working directory."""
    copy_project(evaluated, tmp_path, monkeypatch)
    params = load_params(locations.PARAMS)
    sections = inspect.signature(gradcam_report.run).parameters
    return partial(gradcam_report.run, *(getattr(params, section) for section in sections))


def test_the_page_needs_no_other_file() -> None:
    page = Page(make_report(("cat", "dog", "frog"), 5).render())
    references = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset", "action")]
    assert references
    assert all(value.startswith(("#", "data:")) for value in references)
    assert "@import" not in "".join(page.words)
    assert re.findall(r"url\((?!\"data:|#)", "".join(page.words)) == []


def test_class_names_cannot_become_markup() -> None:
    harmless = Page(make_report(tuple("abcdef"), 30).render())
    hostile = Page(make_report(HOSTILE, 30).render())
    assert hostile.elements == harmless.elements
    assert [name for name, _ in hostile.attributes] == [name for name, _ in harmless.attributes]
    for name in HOSTILE:
        assert name in hostile.words


def test_the_images_in_the_page_are_exact() -> None:
    report = make_report(("cat", "dog", "frog"), 70)  # three rows of the sheet
    images, predicted, true = sheets(report.render())
    np.testing.assert_array_equal(tiles(images.convert("RGB"), 70), report.images)
    for sheet, maps in ((predicted, report.for_predicted), (true, report.for_true)):
        alpha = tiles(sheet.convert("RGBA"), 70)[..., 3] / 255
        np.testing.assert_allclose(alpha, 0.85 * maps, atol=0.016)  # half a step of 32


@pytest.mark.parametrize(("count", "side"), [(3, 512), (1500, 16)])
def test_large_and_many_pictures_fit_into_a_sheet(count: int, side: int) -> None:
    report = make_report(("cat", "dog", "frog"), count)
    images, maps = np.zeros((count, side, side, 3), np.uint8), np.zeros((count, side, side), np.float32)
    images[count - 1], maps[count - 1] = 255, 1
    html = replace(report, images=images, for_predicted=maps, for_true=maps).render()
    (columns,) = {int(found) for found in re.findall(r"--columns: (\d+)", html)}
    row, column = divmod(count - 1, columns)
    for sheet in sheets(html):
        assert max(sheet.size) < 16_384, "the most that WebP can hold"
        tile = sheet.width // columns
        pixels = np.asarray(sheet.convert("RGBA")).sum(axis=2)
        assert pixels[row * tile + tile // 2, column * tile + tile // 2] == pixels.max()


def test_the_largest_report_fits_into_a_sheet() -> None:
    assert sheet_columns(10_000) * LARGEST_PX < 16_384


def test_the_same_report_gives_the_same_bytes() -> None:
    assert make_report(("cat", "dog", "frog"), 5).render() == make_report(("cat", "dog", "frog"), 5).render()


def test_a_page_of_2000_images_stays_below_10_mb() -> None:
    html = make_report(tuple("abcdefghij"), 2000).render()
    assert Page(html).elements.count("li") >= 2000
    assert len(html.encode()) < 10_000_000


def test_a_network_without_mistakes_gets_a_page_that_says_so() -> None:
    page = Page(make_report(("cat", "dog", "frog"), 0).render())
    assert "No mistakes: every test image was classified correctly." in page.words
    assert "100.00% right," in page.words


def test_a_page_that_leaves_mistakes_out_says_so() -> None:
    text = " ".join(Page(make_report(("cat", "dog", "frog"), 20, num_shown=8).render()).words)
    assert "The page holds 8 of 20 mistakes" in re.sub(r"\s+", " ", text)


def test_the_stage_makes_page_and_picture_and_repeats_bit_for_bit(
    tiny_params: Params, run_stage: Callable[[], None]
) -> None:
    digests = []
    for _ in range(2):
        run_stage()
        outputs = (locations.GRADCAM_PAGE, locations.GRADCAM_PLOT, locations.MODEL_CARD)
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in outputs])
    assert digests[0] == digests[1]

    html = locations.GRADCAM_PAGE.read_text(encoding="utf-8")
    page = Page(html)
    assert page.words.count("test image") == tiny_params.gradcam.images
    assert "0.01235" in page.words, "the learning rate that was found, not the word find"
    assert hashlib.md5(locations.MODEL.read_bytes()).hexdigest() in page.words
    dataset = load_dataset(locations.DATA / "digits")
    evaluation = read_predictions(locations.PREDICTIONS)
    np.testing.assert_array_equal(evaluation.labels, dataset.test_labels)
    shown = evaluation.worst_of_each_cell(tiny_params.gradcam.images)
    np.testing.assert_array_equal(tiles(sheets(html)[0].convert("RGB"), len(shown)), dataset.test_images[shown])
    with Image.open(locations.GRADCAM_PLOT) as picture:
        assert min(picture.size) > 400


def test_the_stage_works_without_mistakes(
    run_stage: Callable[[], None],
) -> None:
    dataset = load_dataset(locations.DATA / "digits")
    rows = [f"{index},{label},{label}," for index, label in enumerate(dataset.test_labels)]
    right = np.eye(10)[dataset.test_labels]
    header = ",".join(["index", "true", "predicted", *(f"p_{name}" for name in dataset.classes)])
    lines = [row + ",".join(map(str, values)) for row, values in zip(rows, right, strict=True)]
    locations.PREDICTIONS.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    run_stage()
    assert "No mistakes" in locations.GRADCAM_PAGE.read_text(encoding="utf-8")


def test_the_wrong_predictions_come_worst_first() -> None:
    report = make_report(("cat", "dog", "frog"), 40)
    html = report.render()
    shown = [int(index) for index in re.findall(r'data-index="(\d+)"', html)]
    worst = sorted(range(40), key=lambda index: -report.evaluation.confidence[index])
    assert shown == worst
    assert replace(report, images=report.images[:3]).render().count("data-index=") == 3


def test_the_model_card_has_the_results_with_their_intervals_and_the_confusions() -> None:
    report = make_report(("cat", "dog", "frog"), 40)
    card = render_model_card(report, num_train_images=1234)
    assert "| accuracy | 55.56% | 45.27% to 65.38% |" in card, "50 of 90"
    row, column = np.unravel_index(report.evaluation.mistakes.argmax(), (3, 3))
    names, count = report.evaluation.classes, report.evaluation.mistakes.max()
    assert f"{names[row]} is taken for {names[column]}: {count} images" in card
    assert "Trained on 1,234 images" in card
    assert "| train.lr\\_max | 0.4 |" in card
    assert card == render_model_card(report, num_train_images=1234)


def test_the_model_card_says_if_test_images_were_trained_on() -> None:
    report = make_report(("cat", "dog", "frog"), 40)
    assert "which the network was not trained on" in render_model_card(report, 1000)
    repeated = replace(report, metrics={**report.metrics, "test_images_in_training": 7})
    assert "of which 7 are also training images." in render_model_card(repeated, 1000)


def test_the_model_card_speaks_of_one_image_in_the_singular() -> None:
    card = render_model_card(make_report(("cat", "dog", "frog"), 3), num_train_images=1234)
    assert re.search(r"\b1 image\b", card)
    assert not re.search(r"\b1 images\b", card)


def test_page_and_card_say_from_where_on_the_network_is_unsure() -> None:
    report = make_report(("cat", "dog"), 30)
    assert "It never says so" in render_model_card(report, 1000)
    unsure = {"wanted_accuracy": 0.9, "threshold": 0.75, "answered": 0.5, "accuracy": 0.9143}
    report = replace(report, metrics={**report.metrics, "unsure": unsure})
    card = " ".join(render_model_card(report, 1000).split())
    assert 'Up to a confidence of 75.00% it says "unsure"' in card
    assert "50.0% get an answer, and 91.43% of these are right (77.62% to 97.04%)" in card
    page = " ".join(Page(report.render()).words)
    assert "Up to a confidence of 75.00%" in page


def test_class_names_cannot_become_markdown_or_markup() -> None:
    names = (*HOSTILE, "[x](https://example.org)", "a | b", "*b*", "![](x)", "two\n\n# lines")
    card = MarkdownIt("gfm-like", {"linkify": False}).render(render_model_card(make_report(names, 60), 1000))
    page = Page(card)
    assert set(page.elements) <= {"h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    for name in names:
        assert " ".join(name.split()) in page.words
