"""params.schema.json, which editors use to complete and check params.yaml."""

from pathlib import Path

from pipeline.check import schema_text

PROJECT = Path(__file__).resolve().parent.parent


def test_the_published_schema_is_current() -> None:
    published = (PROJECT / "params.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), "run `python -m pipeline.check --write-schema`"
