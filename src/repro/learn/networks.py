"""Networks of the chapters: perceptrons, LeNets, a small convolutional network, VGG-16 and residual networks.

Every function draws its initial weights from PyTorch's global generator; build networks inside
``seeding.initialization(seed)`` to make them depend on a seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from repro.base import unknown
from repro.learn._residual import resnet18, resnet20

M = TypeVar("M", bound=nn.Module)

__all__ = [
    "ACTIVATIONS",
    "SquaredReLU",
    "kaiming_normal_",
    "lenet5",
    "lenet_300_100",
    "perceptron",
    "resnet18",
    "resnet20",
    "small_cnn",
    "vgg16_bias_free",
]


class SquaredReLU(nn.Module):
    r"""$\max(0,x)^2$, once differentiable everywhere and homogeneous of order 2."""

    elementwise = True

    def forward(self, x: Tensor) -> Tensor:
        """Return the squares of the positive parts, same shape."""
        return torch.relu(x).square()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "squared_relu": SquaredReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise ValueError(unknown("activation", name, ACTIVATIONS))
    return ACTIVATIONS[name]()


def _positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number, 1 or above; got {number!r}")


def perceptron(
    sizes: Sequence[int],
    activation: str = "relu",
    bias: bool | Sequence[bool] = True,
    output_activation: str = "identity",
) -> nn.Sequential:
    r"""Multilayer perceptron $x \mapsto W_D\,\sigma(\cdots\sigma(W_1x+b_1)\cdots)+b_D$.

    Inputs ``(n, ...)`` are flattened first, so images fit as they are. ``Ensemble`` runs it as batched matrix
    products.

    Args:
        sizes: widths from input to output, at least two: ``(64, 128, 10)`` has one hidden layer of 128.
        activation: $\sigma$, a name in ``ACTIVATIONS``.
        bias: whether layers have biases: one answer for all, or one for each layer.
        output_activation: applied to the outputs; ``"identity"`` for losses that take logits.

    Returns:
        ``nn.Sequential``: Flatten, Linear, activation, ..., Linear.

    Raises:
        ValueError: fewer than two sizes, a size below 1, an unknown activation, biases of another number.
    """
    if isinstance(sizes, int) or len(sizes) < 2:
        raise ValueError(f"a perceptron needs at least two sizes (input, output); got {sizes!r}")
    for size in sizes:
        _positive(size=size)
    n_layers = len(sizes) - 1
    biases = [bias] * n_layers if isinstance(bias, bool) else list(bias)
    if len(biases) != n_layers:
        raise ValueError(f"{n_layers} layers need {n_layers} answers in bias; got {len(biases)}")
    _activation(
        activation
    )  # a network without hidden layers does not use it, but a wrong name is still wrong
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(n_in, n_out, bias=biases[i]))
        name = activation if i < n_layers - 1 else output_activation
        layer = _activation(name)
        if not isinstance(layer, nn.Identity):
            layers.append(layer)
    return nn.Sequential(*layers)


def lenet_300_100(n_inputs: int = 784, n_classes: int = 10) -> nn.Sequential:
    """Perceptron with hidden layers of 300 and 100 ReLUs; 266,610 parameters for MNIST.

    Source: LeCun, Bottou, Bengio & Haffner (1998); with ReLUs, as in the pruning literature.
    """
    return perceptron((n_inputs, 300, 100, n_classes))


def lenet5(n_channels: int = 1, image_size: int = 28, n_classes: int = 10) -> nn.Sequential:
    """Two 5x5 convolutions (20 and 50 filters) with 2x2 max-pooling, then 500 ReLUs; 431,080 parameters.

    This is the network that the pruning literature calls LeNet-5 (430,500 weights for 28x28 grey images,
    656,500 for CIFAR-10), not the smaller one of 1998 with 6 and 16 filters.

    Args:
        n_channels: of the images, 1 for grey.
        image_size: height and width in pixels, at least 16.
        n_classes: outputs.

    Raises:
        ValueError: images too small for two convolutions with pooling.
    """
    _positive(n_channels=n_channels, n_classes=n_classes)
    if image_size < 16:
        raise ValueError(f"lenet5 needs images of at least 16x16 pixels; got image_size={image_size}")
    side = ((image_size - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(n_channels, 20, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(50 * side * side, 500), nn.ReLU(), nn.Linear(500, n_classes),
    )  # fmt: skip


def small_cnn(
    n_channels: int = 1, image_size: int = 8, n_classes: int = 10, width: int = 8, batch_norm: bool = False
) -> nn.Sequential:
    """Two 3x3 convolutions (``width`` and twice that), 2x2 max-pooling, one linear layer: seconds on a CPU.

    Args:
        n_channels: of the images.
        image_size: height and width in pixels, at least 2 (8 for scikit-learn's digits).
        n_classes: outputs.
        width: filters of the first convolution.
        batch_norm: normalise after each convolution, which then has no bias.

    Raises:
        ValueError: a size below its least value.
    """
    _positive(n_channels=n_channels, n_classes=n_classes, width=width)
    if image_size < 2:
        raise ValueError(f"small_cnn needs images of at least 2x2 pixels; got image_size={image_size}")
    layers: list[nn.Module] = []
    for n_in, n_out in ((n_channels, width), (width, 2 * width)):
        layers.append(nn.Conv2d(n_in, n_out, 3, padding=1, bias=not batch_norm))
        layers += [nn.BatchNorm2d(n_out), nn.ReLU()] if batch_norm else [nn.ReLU()]
    side = image_size // 2
    layers += [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * width * side * side, n_classes)]
    return nn.Sequential(*layers)


def vgg16_bias_free(n_channels: int = 3, n_classes: int = 10) -> nn.Sequential:
    """Thirteen 3x3 convolutions and one linear layer for 32x32 images, with a bias in the first layer only.

    Without the one bias the network is homogeneous of order 14 in its weights. No batch normalization;
    weights Kaiming-normal, the bias 0.

    Source: the CIFAR-10 network of Morwani & Ramaswamy (2022), after their published code.
    """
    _positive(n_channels=n_channels, n_classes=n_classes)
    layers: list[nn.Module] = []
    n_in = n_channels
    for group in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for n_out in group:
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1, bias=not layers), nn.ReLU()]
            n_in = n_out
        layers.append(nn.MaxPool2d(2))
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, n_classes, bias=False))
    return kaiming_normal_(network)


def kaiming_normal_(network: M) -> M:
    r"""Draw the weights of linear and convolutional layers, $N(0, 2/\text{fan-in})$, biases 0; return it.

    Source: He, Zhang, Ren & Sun (2015), equation 10.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
