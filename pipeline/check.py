"""`python -m pipeline.check`: is params.yaml valid? With --write-schema, write the schema that editors check it by."""

import json
from argparse import ArgumentParser
from pathlib import Path

from cifar_resnet import layout
from cifar_resnet.files import write_text
from cifar_resnet.params import Params, load_params
from pipeline.stage import main

SCHEMA = Path("params.schema.json")


def run() -> None:
    """Say that params.yaml is valid.

    Raises:
        UserError: it is not.
    """
    load_params(layout.PARAMS)
    print(f"{layout.PARAMS} is valid")


def write_schema() -> None:
    """Write the JSON schema of params.yaml."""
    write_text(SCHEMA, schema_text())
    print(f"wrote {SCHEMA}")


def schema_text() -> str:
    """The JSON schema of params.yaml, generated from the models."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.check", description=__doc__)
    parser.add_argument("--write-schema", action="store_true", help=f"write {SCHEMA} instead")
    main(write_schema if parser.parse_args().write_schema else run)
