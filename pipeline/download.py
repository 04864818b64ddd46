"""Stage `download`: the data set, verified, as NumPy arrays."""

from image_classifier.data import save_dataset
from image_classifier.project import locations
from image_classifier.project.params import DataParams
from image_classifier.sources.making import make_dataset
from pipeline.stage import main


def run(data: DataParams) -> None:
    """Write the data set's folder."""
    folder = locations.DATA / data.dataset
    dataset = make_dataset(data)
    save_dataset(dataset, folder)
    print(
        f"{folder}: {len(dataset.train_labels):,} training and {len(dataset.test_labels):,} test images of "
        f"{dataset.image_px} px in {len(dataset.classes)} classes"
    )


if __name__ == "__main__":
    main(run, __doc__)
