"""`python -m pipeline.promote RUN --reason TEXT`: make the model of a run champion, against the rule.

RUN is an MLflow run (name or identifier), a commit or a DVC experiment. The reason is noted in the model's version. If
another version is better by the rule, it gets the alias `challenger`.
"""

from argparse import ArgumentParser, ArgumentTypeError

from image_classifier.project import locations
from image_classifier.project.params import load_params
from image_classifier.tracking.promotion import promote
from pipeline.stage import main


def reason_of(text: str) -> str:
    """A reason in one line. Empty text is an error, which argparse shows."""
    if not text.strip():
        raise ArgumentTypeError("it is empty; say why this model is better than its figures")
    return " ".join(text.split())


def run(word: str, reason: str) -> None:
    """Promote, and print what was done. Raises what `promote` does."""
    for line in promote(load_params(locations.PARAMS), word, reason):
        print(line)


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.promote", description=__doc__)
    parser.add_argument("word", metavar="RUN")
    parser.add_argument("--reason", required=True, type=reason_of, metavar="TEXT", help="why, for those who ask later")
    options = parser.parse_args()
    main(lambda: run(options.word, options.reason))
