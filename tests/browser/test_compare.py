"""The page of a comparison as people use it: opened from disk in Chromium."""

import os
import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from support.browser import assert_shows, needs_chromium, shown
from support.finished_pipeline import commit, run
from support.project import PROJECT
from support.reports import HOSTILE

from image_classifier.compare.comparison import Comparison
from image_classifier.compare.page import render_comparison
from image_classifier.compare.sources import code_address, read_net
from image_classifier.data import load_dataset
from image_classifier.project import locations
from image_classifier.project.params import load_params
from image_classifier.project.recipes import overlay
from image_classifier.report.gradcam import activation_maps
from image_classifier.report.pages import heat_sheet
from image_classifier.system.errors import UserError
from pipeline import compare

pytestmark = [
    needs_chromium,
    pytest.mark.xdist_group("compare"),  # so that one worker makes the project once
]


@pytest.fixture(scope="module")
def project(compared: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The page that the command wrote of two commits, the comparison, the settings and the test images."""
    folder = tmp_path_factory.mktemp("page") / "project"
    shutil.copytree(compared, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        overlay(locations.PARAMS, {"gradcam": {"images": 300}}, locations.PARAMS)
        params = load_params(locations.PARAMS)
        (comparison,) = compare.read_comparisons(["first", "second"], params)
        path = compare.write_page(comparison, params).absolute()
        images = np.array(load_dataset(locations.DATA / "digits").test_images)
    return SimpleNamespace(folder=folder, path=path, comparison=comparison, params=params, images=images)


@pytest.fixture
def opened(page: Page, project: SimpleNamespace) -> Page:
    page.goto(project.path.as_uri())
    return page


def expected(comparison: Comparison, outcome: str, true: str | None = None, predicted: str | None = None) -> set[int]:
    """The images of an outcome, counted again from both predictions."""
    one, other = comparison.first.evaluation, comparison.other.evaluation
    kind = {(False, True): "fixed", (True, False): "broken", (False, False): "wrong in both"}
    names = one.classes
    return {
        index
        for index, (label, first, second) in enumerate(zip(one.labels, one.predicted, other.predicted, strict=True))
        if kind.get((label == first, label == second)) == outcome
        and (true is None or names[label] == true)
        and (predicted is None or predicted in (names[first], names[second]))
    }


def test_the_images_that_were_fixed_can_be_chosen_and_their_address_sent(
    opened: Page,
    browser: Browser,
    project: SimpleNamespace,
) -> None:
    comparison = project.comparison
    fixed = expected(comparison, "fixed")
    opened.locator("dt", has_text="Fixed").locator("+ dd a").click()
    assert opened.url.endswith("#show=fixed")
    assert set(shown(opened)) == fixed
    expect(opened.locator("#count")).to_have_text(f"{len(fixed)} images")
    for index in sorted(fixed)[:3]:
        assert_shows(opened.locator(f".mistake[data-index='{index}'] .tile").first, project.images[index])

    true = comparison.first.evaluation.classes[comparison.first.evaluation.labels[min(fixed)]]
    opened.get_by_label("True class", exact=True).select_option(true)
    with browser.new_context() as elsewhere:
        other = elsewhere.new_page()
        other.goto(opened.url)
        assert other.url.endswith(f"#show=fixed&true={true}")
        assert set(shown(other)) == expected(comparison, "fixed", true)
        expect(other.locator("#images-title")).to_be_in_viewport()


def test_a_changed_confusion_leads_to_its_images_of_every_outcome(opened: Page, project: SimpleNamespace) -> None:
    true, predicted, _, _ = project.comparison.pair_changes()[0]
    opened.locator(".pairs a").first.click()
    assert opened.url.endswith("#" + urlencode({"true": true, "predicted": predicted}))
    total = sum(
        len(expected(project.comparison, outcome, true, predicted)) for outcome in project.comparison.outcomes()
    )
    number = len(shown(opened))
    assert 0 < number <= total
    expected_text = f"{total} images" if number == total else f"{number} of {total} are on this page"
    expect(opened.locator("#count")).to_have_text(expected_text)


def test_each_card_has_what_both_networks_say_and_their_own_maps(opened: Page, project: SimpleNamespace) -> None:
    first, other = project.comparison.first, project.comparison.other
    index = shown(opened)[0]
    words = opened.locator(f".mistake[data-index='{index}'] figcaption").all_inner_texts()
    for each, caption in zip((first, other), words[1:], strict=True):
        evaluation = each.evaluation
        assert caption.split("\n") == [
            evaluation.classes[evaluation.predicted[index]],
            f"{evaluation.confidence[index]:.1%}",
            each.name,
        ]
    indices, text = np.array(shown(opened)), project.path.read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        for run in (first, other):
            classes = run.evaluation.predicted[indices]
            assert (
                heat_sheet(activation_maps(read_net(run), project.images[indices], classes, project.params.gradcam))
                in text
            )


def test_the_page_works_without_weights_and_without_images(
    page: Page,
    project: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(project.folder)
    fixed = expected(project.comparison, "fixed")
    without_weights = replace(project.comparison, other=replace(project.comparison.other, model_md5=None))
    other_data = replace(project.comparison, other=replace(project.comparison.other, data_md5="0" * 32))
    for comparison, words in ((without_weights, "Without maps of second"), (other_data, "Without images")):
        file = tmp_path / "page.html"
        file.write_text(render_comparison(comparison, project.params), encoding="utf-8")
        page.goto("about:blank")
        page.goto(file.as_uri() + "#show=fixed")
        expect(page.get_by_text(words)).to_be_visible()
        assert set(shown(page)) == fixed
    with pytest.raises(UserError, match="are not in DVC's cache"):
        read_net(without_weights.other)


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_cut_off_on_a_narrow_screen(
    page: Page,
    project: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    width: int,
) -> None:
    monkeypatch.chdir(project.folder)
    named = replace(project.comparison, other=replace(project.comparison.other, name=HOSTILE[1] + "a" * 60))
    file = tmp_path / "page.html"
    file.write_text(render_comparison(named, project.params), encoding="utf-8")
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(file.as_uri())  # the fixture fails if a script in the name runs
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 1100])
def test_no_word_above_a_table_is_broken_and_the_chart_below_it_can_be_read(opened: Page, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 800})
    lines = opened.get_by_role("columnheader", name="accuracy", exact=True).evaluate(
        "one => { const range = new Range(); range.selectNodeContents(one); return range.getClientRects().length }"
    )
    assert lines == 1
    assert opened.locator("#confidence .chart svg").evaluate("one => one.clientWidth") > min(500, width - 50)


def test_without_scripts_the_page_shows_only_what_works(browser: Browser, project: SimpleNamespace) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(project.path.as_uri())
        assert page.locator("button:visible, select:visible, input:visible").count() == 0
        addresses = {link.get_attribute("href") for link in page.locator("a[href]:visible").all()}
        assert addresses == {"#classes", "#images", "#training", "#confidence", "#settings"}
        assert page.locator(".mistake:visible").count() > 100


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@github.com:me/project.git", "https://github.com/me/project/compare/{}...{}"),
        ("https://user:secret@github.com/me/project", "https://github.com/me/project/compare/{}...{}"),
        ("ssh://git@gitlab.example.org:2222/a/b.git", "https://gitlab.example.org/a/b/-/compare/{}...{}"),
        ("/home/me/project.git", None),
    ],
)
def test_the_link_to_what_changed_in_the_code_is_on_the_remotes_site(
    project: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, remote: str, address: str | None
) -> None:
    monkeypatch.chdir(project.folder)
    run("git", "config", "remote.origin.url", remote, cwd=project.folder)
    first, other = project.comparison.first, project.comparison.other
    assert code_address(first, other) == (address and address.format(first.commit, other.commit))
    assert code_address(first, first) is None


CIFAR10 = os.environ.get("CIFAR10_SOURCE")
NARROW: dict[str, dict[str, Any]] = {
    "model": {"width": 4},
    "lr_find": {"steps": 20},
    "train": {"lr_min": 0.02, "lr_max": 0.4},
    "evaluate": {"flip_tta": False},
    "gradcam": {"images": 300},
    "compute": {"device": "cpu", "precision": "fp32", "compile": "off", "threads": 1},
    "runtime": {"workers": 0},
}


@pytest.mark.skipif(not CIFAR10, reason="CIFAR10_SOURCE does not say where CIFAR-10 is")
def test_one_epoch_and_two_epochs_on_cifar10_are_compared_with_the_right_images(
    page: Page,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CIFAR10_SOURCE", str(CIFAR10))
    shutil.copy(PROJECT / locations.PARAMS, locations.PARAMS)
    overlay(locations.PARAMS, NARROW, locations.PARAMS)
    for tag, epochs in (("one-epoch", 1), ("two-epochs", 2)):
        overlay(locations.PARAMS, {"train": {"epochs": epochs, "peak_epoch": 0.5}}, locations.PARAMS)
        run("dvc", "repro", "evaluate", cwd=workspace)
        commit(workspace, tag)
        run("git", "tag", tag, cwd=workspace)
    printed = run(sys.executable, "-m", "pipeline.compare", "one-epoch", "two-epochs", cwd=workspace)
    address = (workspace / printed.rpartition("page: ")[2].strip()).as_uri()
    (comparison,) = compare.read_comparisons(["one-epoch", "two-epochs"], load_params(locations.PARAMS))
    fixed, fixed_cats = expected(comparison, "fixed"), expected(comparison, "fixed", "cat")

    page.goto(address)
    page.get_by_label("Show", exact=True).select_option("fixed")
    assert len(shown(page)) == 100
    assert set(shown(page)) <= fixed
    expect(page.locator("#count")).to_have_text(f"100 of {len(fixed):,} are on this page")
    page.goto("about:blank")
    page.goto(f"{address}#show=fixed&true=cat")
    cats = shown(page)
    assert cats
    assert set(cats) <= fixed_cats
    expect(page.locator("#count")).to_have_text(f"{len(cats)} of {len(fixed_cats)} are on this page")
    images = published_test_images()
    for index in cats[:5]:
        assert_shows(page.locator(f".mistake[data-index='{index}'] .tile").first, images[index])


def published_test_images() -> np.ndarray:
    """CIFAR-10's test images as the published file has them."""
    with (Path(str(CIFAR10)) / "test_batch").open("rb") as file:
        return np.asarray(pickle.load(file, encoding="bytes")[b"data"]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
