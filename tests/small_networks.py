"""A small convolutional network for tests."""

from torch import nn


def small_cnn(width=8, batch_norm=False):
    """Two 3x3 convolutions for 8x8 images, 2x2 max-pooling, one linear layer; normalized convolutions have no bias."""
    layers = []
    for n_in, n_out in ((1, width), (width, 2 * width)):
        layers.append(nn.Conv2d(n_in, n_out, 3, padding=1, bias=not batch_norm))
        layers += [nn.BatchNorm2d(n_out), nn.ReLU()] if batch_norm else [nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * width * 16, 10))
