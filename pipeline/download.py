"""Stage `download`: the data set, verified, as NumPy arrays."""

from cifar_resnet import layout
from cifar_resnet.data import save_dataset
from cifar_resnet.datasets import make_dataset
from cifar_resnet.params import DataParams
from pipeline.stage import main


def run(data: DataParams) -> None:
    """Write the data set's folder."""
    folder = layout.DATA / data.dataset
    dataset = make_dataset(data)
    save_dataset(dataset, folder)
    print(
        f"{folder}: {len(dataset.train_labels):,} training and {len(dataset.test_labels):,} test images of "
        f"{dataset.image_px} px in {len(dataset.classes)} classes"
    )


if __name__ == "__main__":
    main(run, __doc__)
