"""docs/reliability.md promises nothing without a test."""

import re

from support.project import PROJECT

PAGE = PROJECT / "docs" / "reliability.md"


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"\[([^\[\]]+)\]\(\.\./(tests/[a-z_/]+\.py)\)", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 40
    for claim, file in named:
        assert f"\ndef test_{claim.replace(' ', '_')}(" in (PROJECT / file).read_text(encoding="utf-8"), claim


def test_every_case_on_the_page_has_a_test() -> None:
    cases = PAGE.read_text(encoding="utf-8").split("## Platforms")[0]
    for row in re.findall(r"^\| (?!case|-)(.*) \|$", cases, re.MULTILINE):
        assert "](../tests/" in row, row
