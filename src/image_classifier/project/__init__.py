"""What is asked (`params.yaml`, `dvc.yaml`), what ran (`dvc.lock`), and whether that is true. It computes no result."""
