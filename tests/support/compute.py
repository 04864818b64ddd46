"""Settings of section `compute`, on one thread of the CPU."""

from image_classifier.project.params import ComputeParams


def settings(**changed: object) -> ComputeParams:
    cpu = {"device": "cpu", "precision": "fp32", "compile": "off", "threads": 1, "processes": 1}
    return ComputeParams.model_validate(cpu | changed)
