"""params.schema.json, which editors use to complete and check params.yaml."""

from support.project import PROJECT

from pipeline.check import schema_text


def test_the_published_schema_is_current() -> None:
    published = (PROJECT / "params.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), "run `python -m pipeline.check --write-schema`"
