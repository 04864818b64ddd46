"""Stage `download`: the data set, verified, as NumPy arrays; and the weights that the training starts from."""

from image_classifier.data import save_dataset
from image_classifier.model.network import make_network
from image_classifier.model.start_file import ANY_NUMBER, make_start_file, require_fit
from image_classifier.project import locations
from image_classifier.project.definition import Project
from image_classifier.project.params import DataParams, ModelParams, TrainParams
from image_classifier.sources.making import make_dataset
from pipeline.stage import main


def run(data: DataParams, model: ModelParams, train: TrainParams, project: Project) -> None:
    """Write the data set's folder and the weights' file, if the network can take such images."""
    net = make_network(model, ANY_NUMBER, (0.5,) * 3, (0.5,) * 3)
    require_fit(net, data.image_px, project.params.gradcam.layer)  # only looked at, so another layer fetches nothing
    make_start_file(net, model, train.start_from)
    folder = locations.DATA / data.dataset
    dataset = make_dataset(data)
    save_dataset(dataset, folder)
    print(
        f"{folder}: {len(dataset.train_labels):,} training and {len(dataset.test_labels):,} test images of "
        f"{dataset.image_px} px in {len(dataset.classes)} classes"
    )


if __name__ == "__main__":
    main(run, __doc__)
