"""`python -m pipeline.sync`: make MLflow show the state on disk, in one complete run. Safe to call at any time.

Use it after `dvc pull` in a new clone, or if MLflow's store was deleted, moved or out of reach.
"""

from image_classifier.project.definition import Project
from image_classifier.tracking.publication import publish
from pipeline.stage import main


def run(project: Project) -> None:
    """Publish, and say what was done. Raises what `publish` does."""
    publication = publish(project)
    for action in publication.actions:
        print(action)
    if publication.obstacle:
        print(f"nothing to publish: {publication.obstacle}")
    elif not publication.actions:
        print(f"nothing to do: MLflow run {publication.run_name} is complete")
    if publication.note:
        print(publication.note)


if __name__ == "__main__":
    main(run, __doc__)
