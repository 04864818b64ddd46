"""A custom ResNet for CIFAR-10: data, network, learning rates, training, evaluation, explanation and tracking."""
