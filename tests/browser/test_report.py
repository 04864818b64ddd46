"""The report page as people use it: opened from disk in Chromium."""

import inspect
import shutil
import subprocess
from collections.abc import Callable
from configparser import ConfigParser
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dvc_render.html import HTML
from dvc_render.vega import VegaRenderer
from matplotlib.colors import to_rgb
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from support.browser import assert_shows, needs_chromium, pixels, shown
from support.project import PROJECT
from support.reports import HOSTILE, make_report

from image_classifier.data import load_dataset
from image_classifier.evaluation.predictions import Evaluation, read_predictions
from image_classifier.plots.evaluation import matrix_shares
from image_classifier.plots.style import PALETTE, short
from image_classifier.project import locations
from image_classifier.project.params import load_params
from pipeline import gradcam_report

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def project(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The stage's report on a real network's mistakes: its path, the test images and the predictions."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(evaluated, folder, dirs_exist_ok=True)
    params = load_params(folder / locations.PARAMS)
    params = params.model_copy(update={"gradcam": params.gradcam.model_copy(update={"images": 1000})})
    with chdir(folder):
        gradcam_report.run(*(getattr(params, name) for name in inspect.signature(gradcam_report.run).parameters))
        dataset = load_dataset(locations.DATA / "digits")
        evaluation = read_predictions(locations.PREDICTIONS)
    return SimpleNamespace(page=folder / locations.GRADCAM_PAGE, images=dataset.test_images, evaluation=evaluation)


@pytest.fixture
def report(page: Page, project: SimpleNamespace) -> Page:
    page.goto(project.page.as_uri())
    return page


def most_confused(evaluation: Evaluation) -> tuple[int, int]:
    mistakes = evaluation.confusion - np.diag(evaluation.confusion.diagonal())
    true, predicted = np.unravel_index(mistakes.argmax(), mistakes.shape)
    return int(true), int(predicted)


def cell(page: Page, true: int, predicted: int) -> Locator:
    return page.locator(f".matrix a[data-choices='true={true}&predicted={predicted}']")


def test_every_mistake_is_there_and_every_picture_is_painted(report: Page, project: SimpleNamespace) -> None:
    assert shown(report) == project.evaluation.misclassified.tolist()
    urls = report.evaluate(
        """() => [...document.querySelector(".mistake").querySelectorAll(".tile")].flatMap(tile =>
            ["::before", "::after"].map(part => getComputedStyle(tile, part).backgroundImage))
            .filter(value => value.startsWith("url")).map(value => value.slice(5, -2))"""
    )
    assert len(set(urls)) == 3, "images, heat for the predicted and for the true class"
    loaded = "url => new Promise(done => { const i = new Image(); i.onload = () => done(i.naturalWidth); i.src = url })"
    for url in urls:
        assert report.evaluate(loaded, url) == 32 * 32


def test_images_are_enlarged_without_blur(report: Page, project: SimpleNamespace) -> None:
    for index in (shown(report)[0], shown(report)[40], shown(report)[-1]):
        assert_shows(report.locator(f".mistake[data-index='{index}'] .tile").first, project.images[index])


def test_overlays_show_heat_on_grey(report: Page) -> None:
    for number in (1, 2):
        seen = pixels(report.locator(".mistake").first.locator(".tile").nth(number)).astype(int)
        spread = seen.max(axis=2) - seen.min(axis=2)
        assert spread.max() > 80, "heat is coloured"
        assert spread.min() < 10, "the rest is grey"


def test_a_cell_of_the_confusion_matrix_filters_the_gallery(report: Page, project: SimpleNamespace) -> None:
    evaluation = project.evaluation
    true, predicted = most_confused(evaluation)
    cell(report, true, predicted).click()
    expected = [
        index
        for index in evaluation.misclassified
        if evaluation.labels[index] == true and evaluation.predicted[index] == predicted
    ]
    assert shown(report) == expected
    assert cell(report, true, predicted).inner_text() == str(len(expected))
    expect(cell(report, true, predicted)).to_have_attribute("aria-current", "true")
    expect(report.locator("#count")).to_have_text(f"{len(expected)} mistakes")
    expect(report.locator("#mistakes-title")).to_be_in_viewport()
    for mistake in report.locator(".mistake:visible").all():
        words = mistake.locator("b").all_text_contents()
        assert words[1:] == [evaluation.classes[predicted], evaluation.classes[true]]

    report.get_by_role("link", name="Show all").click()
    assert len(shown(report)) == len(evaluation.misclassified)
    expect(report.get_by_role("link", name="Show all")).to_be_hidden()
    expect(cell(report, true, predicted)).to_have_attribute("aria-current", "false")


def test_a_confused_pair_filters_the_gallery_by_keyboard(report: Page, project: SimpleNamespace) -> None:
    true, predicted = most_confused(project.evaluation)
    first = report.locator(".pairs a").first
    first.focus()
    report.keyboard.press("Enter")
    expect(report.get_by_label("True class", exact=True)).to_have_value(str(true))
    expect(report.get_by_label("Predicted as", exact=True)).to_have_value(str(predicted))
    assert len(shown(report)) == project.evaluation.confusion[true, predicted]


def test_a_choice_that_matches_nothing_says_so(report: Page) -> None:
    report.get_by_label("True class", exact=True).select_option("3")
    report.get_by_label("Predicted as", exact=True).select_option("3")
    assert shown(report) == []
    expect(report.get_by_text("No image here matches.")).to_be_visible()


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("least confident first", lambda evaluation, index: evaluation.confidence[index]),
        ("least probable true class first", lambda evaluation, index: evaluation.true_probability[index]),
        ("as in the test set", lambda evaluation, index: index),
        ("most confident first", lambda evaluation, index: -evaluation.confidence[index]),
    ],
)
def test_the_gallery_sorts(
    report: Page, project: SimpleNamespace, order: str, key: Callable[[Evaluation, int], float]
) -> None:
    report.get_by_label("Sort", exact=True).select_option("as in the test set")
    report.get_by_label("Sort", exact=True).select_option(order)
    values = [key(project.evaluation, index) for index in shown(report)]
    assert values == sorted(values)
    assert len(values) == len(project.evaluation.misclassified)


def test_the_theme_follows_the_system_and_the_button(browser: Browser, project: SimpleNamespace) -> None:
    with browser.new_context(color_scheme="dark") as context:
        page = context.new_page()
        page.goto(project.page.as_uri())
        background = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(background)
        page.get_by_role("button", name="Light").click()
        light = page.evaluate(background)
        page.get_by_role("button", name="Dark").click()
        assert page.evaluate(background) == dark
    assert brightness(dark) < 60 < 200 < brightness(light)


def brightness(colour: str) -> float:
    """The brightness, 0 to 255, of a CSS colour such as `rgb(1, 2, 3)`."""
    return float(np.mean([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]))


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_cut_off_on_a_narrow_screen(page: Page, project: SimpleNamespace, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(project.page.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "rows"), [(1280, 1), (1100, 1), (977, 1), (800, 3), (390, 3)])
def test_three_charts_share_one_row_or_have_one_each(
    page: Page, project: SimpleNamespace, width: int, rows: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(project.page.as_uri())
    tops = page.locator("#training .chart").evaluate_all("all => all.map(one => one.offsetTop)")
    assert (len(tops), len(set(tops))) == (3, rows)


def test_a_cell_shows_an_address_that_others_can_open_and_back_returns(
    report: Page, browser: Browser, project: SimpleNamespace
) -> None:
    everything, (true, predicted) = shown(report), most_confused(project.evaluation)
    cell(report, true, predicted).click()
    report.get_by_label("Sort", exact=True).select_option("least confident first")
    filtered = shown(report)
    assert report.url.endswith(f"#true={true}&predicted={predicted}&sort=unsure")
    with browser.new_context() as elsewhere:
        other = elsewhere.new_page()
        other.goto(report.url)
        assert shown(other) == filtered
        expect(other.locator("#mistakes-title")).to_be_in_viewport()
        expect(other.get_by_label("Sort", exact=True)).to_have_value("unsure")

    report.go_back()
    assert shown(report) == filtered[::-1]
    report.go_back()
    assert shown(report) == everything
    expect(report.get_by_label("True class", exact=True)).to_have_value("")
    report.go_forward()
    assert shown(report) == filtered[::-1]


def test_a_link_to_a_section_keeps_the_choice_and_a_link_to_the_gallery_ends_it(
    report: Page, project: SimpleNamespace
) -> None:
    true, predicted = most_confused(project.evaluation)
    cell(report, true, predicted).click()
    filtered = shown(report)
    report.get_by_role("link", name="Training").click()
    assert shown(report) == filtered
    report.get_by_role("link", name="Gallery", exact=True).click()
    num_mistakes = len(project.evaluation.misclassified)
    expect(report.locator("#count")).to_have_text(f"{num_mistakes} mistakes")  # waits until the page has changed
    assert len(shown(report)) == num_mistakes


def test_an_address_with_an_unknown_class_shows_that_class(page: Page, project: SimpleNamespace) -> None:
    page.goto(project.page.as_uri() + "#true=unicorn")
    assert shown(page) == []
    expect(page.get_by_label("True class", exact=True)).to_have_value("unicorn")


def test_class_names_of_any_kind_have_addresses(page: Page, tmp_path: Path) -> None:
    names = ("a&b=c", "50% #1", "ü + ö", HOSTILE[1])
    file = tmp_path / "names.html"
    file.write_text(make_report(names, 60).render(), encoding="utf-8")
    page.goto(file.as_uri())
    for link in page.locator(".matrix a").all():
        link.click()
        address = page.url
        found = shown(page)
        assert 0 < len(found) < 60
        assert link.inner_text() == str(len(found))
        page.goto("about:blank")
        page.goto(address)
        assert shown(page) == found


def test_a_page_that_leaves_mistakes_out_says_how_many_of_a_cell_it_holds(page: Page, tmp_path: Path) -> None:
    report = make_report(("cat", "dog", "frog"), 90, num_shown=20)
    file = tmp_path / "some.html"
    file.write_text(report.render(), encoding="utf-8")
    page.goto(file.as_uri())
    expect(page.locator("#count")).to_have_text("20 of 90 are on this page")
    for link in page.locator(".matrix a").all():
        number = int(link.inner_text())
        link.click()
        assert shown(page), "no cell is empty"
        assert number > len(shown(page))
        expect(page.locator("#count")).to_have_text(f"{len(shown(page))} of {number} are on this page")


def test_arrow_keys_move_in_the_matrix_which_is_one_tab_stop(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "four classes.html"  # every class is taken for every other
    file.write_text(make_report(tuple("abcd"), 60).render(), encoding="utf-8")
    page.goto(file.as_uri())
    page.locator(".matrix a").first.focus()
    places = []
    for key in ("End", "ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowDown", "ArrowUp", "ArrowUp", "Home"):
        page.keyboard.press(key)
        places.append(page.evaluate("document.activeElement.dataset.choices.replace(/true=|predicted=|&/g, '')"))
    assert places == ["ad", "bd", "bc", "ba", "ca", "ba", "ba", "ba"], "the diagonal has no images to go to"
    page.keyboard.press("Tab")
    expect(page.locator(".pairs a").first).to_be_focused()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.dataset.choices") == "true=b&predicted=a"
    page.keyboard.press("Enter")
    expect(page.get_by_label("Predicted as", exact=True)).to_have_value("a")


def test_digits_stand_upright_above_a_matrix_whose_names_take_little_room(report: Page) -> None:
    head = report.locator(".matrix th[scope=col] span").first
    assert head.evaluate("one => getComputedStyle(one).writingMode") == "horizontal-tb"
    assert report.locator(".matrix thead td").evaluate("one => one.offsetWidth") < 40


def test_without_scripts_the_page_shows_only_what_works(browser: Browser, project: SimpleNamespace) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(project.page.as_uri())
        assert page.locator("button:visible, select:visible, input:visible").count() == 0
        sections = {"#training", "#confusion", "#confidence", "#mistakes", "#settings"}
        assert {link.get_attribute("href") for link in page.locator("a[href]:visible").all()} == sections
        assert page.locator(".mistake:visible").count() == len(project.evaluation.misclassified)
        assert page.get_by_text("Choose a count").is_hidden()
        bottom, top = (
            page.locator(place).evaluate(f"one => one.getBoundingClientRect().{side}")
            for place, side in ((".legend", "bottom"), ("#gallery", "top"))
        )
        assert top - bottom >= 16


@pytest.mark.skipif(
    shutil.which("pdftoppm") is None, reason="there is no `pdftoppm` (poppler-utils) to look at the PDF"
)
def test_a_printed_page_keeps_its_colours_and_pictures_and_has_no_buttons(page: Page, tmp_path: Path) -> None:
    report = make_report(tuple("abcd"), 12)
    file = tmp_path / "printed.html"
    file.write_text(report.render(), encoding="utf-8")
    page.emulate_media(color_scheme="dark")
    page.goto(file.as_uri() + "#true=b")
    page.pdf(path=tmp_path / "printed.pdf", format="A4")  # as people print: without backgrounds
    subprocess.run(["pdftoppm", "-r", "96", "-png", "printed.pdf", "sheet"], cwd=tmp_path, check=True)
    sheets = [np.asarray(Image.open(sheet).convert("RGB")).astype(int) for sheet in sorted(tmp_path.glob("sheet*.png"))]
    pixels = np.concatenate([sheet.reshape(-1, 3) for sheet in sheets])
    assert (pixels == 255).all(axis=1).mean() > 0.5, "a dark theme is printed on white paper"
    shares = matrix_shares(report.evaluation.confusion)
    strongest = {"right": shares.diagonal().max(), "wrong": (shares - np.diag(shares.diagonal())).max()}
    ground = 255 * np.array(to_rgb(PALETTE["page"].light))
    assert (abs(pixels - ground).max(axis=1) < 0.5).sum() < 500, "the bar of filters has no ground of its own on paper"
    for colour, share in strongest.items():
        tint = 255 * (share * np.array(to_rgb(PALETTE[colour].light)) + 1 - share)
        assert (abs(pixels - tint).max(axis=1) < 4).sum() > 500, f"the matrix has no cells in the colour of {colour}"
    gallery = pixels.reshape(-1, 3)[len(sheets[0].reshape(-1, 3)) :]
    assert (gallery.max(axis=1) - gallery.min(axis=1) > 100).sum() > 64 * 64, "images and heat are coloured"

    words = subprocess.run(["pdftotext", "printed.pdf", "-"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert not {"Dark", "Light", "Show all"} & set(words.stdout.splitlines())
    assert "Choose a count" not in words.stdout
    assert f"{int(report.evaluation.mistakes[1].sum())} mistakes" in words.stdout


@pytest.mark.parametrize("num_classes", [2, 100, 200])
def test_any_number_of_classes_with_long_names_fits_a_phone(page: Page, tmp_path: Path, num_classes: int) -> None:
    classes = tuple(
        f"a class name of forty characters, no. {number:02d}"[:40] + str(number) for number in range(num_classes)
    )
    file = tmp_path / "classes.html"
    file.write_text(make_report(classes, 300).render(), encoding="utf-8")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".matrix td").count() <= 31 * 30 + 1
    too_small = """all => all.filter(one => one.offsetParent && !one.closest(".skip"))
        .map(one => one.getBoundingClientRect()).filter(box => Math.min(box.width, box.height) < 36).length"""
    assert page.locator("a[href]:not(.skip), button, select").evaluate_all(too_small) == 0


@pytest.mark.parametrize("size_px", [64, 96])
def test_images_of_any_size_are_shown_whole_in_their_tiles(page: Page, tmp_path: Path, size_px: int) -> None:
    report = make_report(("cat", "dog", "frog"), 5)
    larger = {
        name: getattr(report, name).repeat(size_px // 32, axis=1).repeat(size_px // 32, axis=2)
        for name in ("images", "for_predicted", "for_true")
    }
    file = tmp_path / "large.html"
    file.write_text(replace(report, **larger).render(), encoding="utf-8")
    page.goto(file.as_uri())
    side = {64: 128, 96: 96}[size_px]
    tile = page.locator(f".mistake[data-index='{report.evaluation.worst_of_each_cell(5)[3]}'] .tile").first
    assert_shows(tile, report.images[3], side)


def test_every_picture_and_control_has_a_name(report: Page) -> None:
    unnamed = report.evaluate(
        """() => [...document.querySelectorAll("[role=img], button, a")]
            .filter(one => !(one.getAttribute("aria-label") || one.textContent).trim()).length"""
    )
    assert unnamed == 0
    assert report.locator("select").evaluate_all("all => all.every(one => one.labels.length === 1)")


def test_class_names_stay_text_in_a_browser(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "hostile names.html"
    file.write_text(make_report(HOSTILE, 30).render(), encoding="utf-8")
    page.goto(file.as_uri())  # the fixture fails if a script in a name runs
    assert page.get_by_label("True class", exact=True).locator("option").all_inner_texts() == ["any", *HOSTILE]
    labels = page.locator(".chart").last.locator("text").all_text_contents()
    assert {short(name) for name in HOSTILE} <= set(labels)
    assert page.locator("script").count() == 1


def test_a_page_of_2000_images_opens_and_filters_quickly(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "large.html"
    file.write_text(make_report(tuple("abcdefghij"), 2000).render(), encoding="utf-8")
    page.goto(file.as_uri())
    seconds = page.evaluate(
        """async () => {
            const start = performance.now();
            document.querySelector(".matrix a").click();
            await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
            return (performance.now() - start) / 1000;
        }"""
    )
    assert page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < 5000  # 0.5 s on an idle core
    assert seconds < 2  # 0.1 s on an idle core


@pytest.mark.parametrize("vega", ["", "window.vegaEmbed = () => {}"])
def test_the_page_of_dvc_plots_says_why_charts_are_missing_without_a_network(
    browser: Browser, tmp_path: Path, vega: str
) -> None:
    config = ConfigParser()
    config.read(PROJECT / ".dvc" / "config")
    template = (PROJECT / ".dvc" / config["plots"]["html_template"]).read_text(encoding="utf-8")
    document = HTML(template).with_scripts(f"<script>{vega}</script>{VegaRenderer.SCRIPTS}").with_element("a plot")
    (tmp_path / "index.html").write_text(document.embed(), encoding="utf-8")
    with browser.new_context() as context:
        context.route("https://**", lambda route: route.abort())
        page = context.new_page()
        page.goto((tmp_path / "index.html").as_uri())
        expect(page.get_by_text("a plot")).to_be_visible()
        expect(page.get_by_text("could not be reached")).to_be_visible(visible=not vega)
