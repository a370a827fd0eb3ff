"""Networks of the chapters: perceptrons, LeNets, VGG-16 and residual networks; parametrised ones made plain again.

Every function draws its initial weights from PyTorch's global generator; build networks inside
``seeding.initialization(seed)`` to make them depend on a seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from repro.base import one_of, whole

_M = TypeVar("_M", bound=nn.Module)


class _SquaredReLU(nn.Module):
    r"""$\max(0,x)^2$, once differentiable everywhere and homogeneous of order 2."""

    elementwise = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x).square()


_ACTIVATIONS = {"relu": nn.ReLU, "squared_relu": _SquaredReLU, "tanh": nn.Tanh, "identity": nn.Identity}


def perceptron(
    sizes: Sequence[int], activation: str = "relu", bias: bool | Sequence[bool] = True
) -> nn.Sequential:
    r"""Multilayer perceptron $x \mapsto W_D\,\sigma(\cdots\sigma(W_1x+b_1)\cdots)+b_D$.

    Inputs ``(n, ...)`` are flattened first, so images fit as they are. ``Ensemble`` runs it as batched matrix
    products.

    Args:
        sizes: widths from input to output, at least two: ``(64, 128, 10)`` has one hidden layer of 128.
        activation: $\sigma$, one of ``"relu"``, ``"squared_relu"`` ($\max(0,x)^2$), ``"tanh"`` and ``"identity"``.
        bias: whether layers have biases: one answer for all, or one for each layer.

    Returns:
        ``nn.Sequential``: Flatten, Linear, activation, ..., Linear.

    Raises:
        ValueError: fewer than two sizes, a size below 1, an unknown activation, biases of another number.
    """
    sizes = [whole("size", size) for size in sizes]
    sigma = _ACTIVATIONS[one_of("activation", activation, _ACTIVATIONS)]
    biases = [bias] * (len(sizes) - 1) if isinstance(bias, bool) else list(bias)
    if len(sizes) < 2 or len(biases) != len(sizes) - 1:
        both = f"{sizes} with {len(biases)} biases"
        raise ValueError(f"a perceptron has at least two sizes and one bias less; got {both}")
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        if i > 0 and sigma is not nn.Identity:
            layers.append(sigma())
        layers.append(nn.Linear(n_in, n_out, bias=biases[i]))
    return nn.Sequential(*layers)


def lenet_300_100() -> nn.Sequential:
    """Perceptron with hidden layers of 300 and 100 ReLUs; 266,610 parameters for MNIST.

    Source: LeCun, Bottou, Bengio & Haffner (1998); with ReLUs, as in the pruning literature.
    """
    return perceptron((784, 300, 100, 10))


def lenet5() -> nn.Sequential:
    """Two 5x5 convolutions (20 and 50 filters) with 2x2 max-pooling, then 500 ReLUs; 431,080 parameters.

    This is the network that the pruning literature calls LeNet-5 (430,500 weights for 28x28 grey images and ten
    classes), not the smaller one of 1998 with 6 and 16 filters.
    """
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(50 * 4 * 4, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def vgg16_bias_free() -> nn.Sequential:
    """Thirteen 3x3 convolutions and one linear layer for 32x32 images, with a bias in the first layer only.

    Without the one bias the network is homogeneous of order 14 in its weights. No batch normalization;
    weights Kaiming-normal, the bias 0.

    Source: the CIFAR-10 network of Morwani & Ramaswamy (2022), after their published code.
    """
    layers: list[nn.Module] = []
    n_in = 3
    for group in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for n_out in group:
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1, bias=not layers), nn.ReLU()]
            n_in = n_out
        layers.append(nn.MaxPool2d(2))
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10, bias=False))
    return kaiming_normal_(network)


def kaiming_normal_(network: _M, mode: Literal["fan_in", "fan_out"] = "fan_in") -> _M:
    r"""Draw the weights of linear and convolutional layers, $N(0, 2/\text{fan-in})$, biases 0; return it.

    Args:
        network: changed in place.
        mode: ``"fan_in"``, or ``"fan_out"`` to divide by the number of outputs instead.

    Source: He, Zhang, Ren & Sun (2015), equation 10.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


# --- residual networks ------------------------------------------------------------------------------------------------


def _convolution(n_in: int, n_out: int, stride: int, batch_norm: bool) -> nn.Sequential:
    convolution = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=not batch_norm)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out)) if batch_norm else nn.Sequential(convolution)


class _Subsample(nn.Module):
    """Shortcut without parameters: every second pixel, missing channels filled with zeros (option A)."""

    def __init__(self, n_missing: int) -> None:
        super().__init__()
        self.n_missing = n_missing

    def forward(self, x: Tensor) -> Tensor:
        before = self.n_missing // 2
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.n_missing - before))


class _BasicBlock(nn.Module):
    r"""$\mathrm{relu}(x' + F(x))$ with two 3x3 convolutions in $F$ and $x'$ the shortcut of $x$."""

    def __init__(self, n_in: int, n_out: int, batch_norm: bool) -> None:
        super().__init__()
        self.first = _convolution(n_in, n_out, 1 if n_in == n_out else 2, batch_norm)
        self.second = _convolution(n_out, n_out, 1, batch_norm)
        self.shortcut = nn.Identity() if n_in == n_out else _Subsample(n_out - n_in)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.shortcut(x) + self.second(functional.relu(self.first(x))))


class _ResNet(nn.Module):
    """A 3x3 convolution, stages of basic blocks, mean over pixels, a linear layer."""

    def __init__(self, batch_norm: bool) -> None:
        super().__init__()
        widths = [16] * 4 + [32] * 3 + [64] * 3
        self.stem = _convolution(3, 16, 1, batch_norm)
        self.blocks = nn.Sequential(*(_BasicBlock(a, b, batch_norm) for a, b in pairwise(widths)))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        # mean over pixels rather than adaptive pooling, whose gradient has no deterministic version on CUDA
        return self.linear(self.blocks(functional.relu(self.stem(x))).mean(dim=(2, 3)))


def resnet20(batch_norm: bool = True) -> nn.Module:
    """Residual network of 20 layers for 32x32 images: widths 16, 32, 64; shortcuts without weights.

    Args:
        batch_norm: normalise after each convolution; without it the convolutions have biases.

    Returns:
        Module from images ``(n, 3, height, width)`` to logits ``(n, 10)``.

    Source: He, Zhang, Ren & Sun (2016), section 4.2, shortcut option A.
    """
    return _ResNet(batch_norm)


# --- parametrised layers made plain again ----------------------------------------------------------------------------


def fold(module: nn.Module, *kinds: type[nn.Module]) -> nn.Module:
    """Turn layers whose tensors are parametrised into plain ones, in place, with bit by bit the same weights.

    Args:
        module: any module.
        kinds: classes of parametrizations to fold; tensors with another one, or with several, are left alone.

    Returns:
        The same module.
    """
    for layer in module.modules():
        for own in list(layer.parametrizations) if parametrize.is_parametrized(layer) else ():  # type: ignore[arg-type]
            chain = list(layer.parametrizations[own])  # type: ignore[index]
            if len(chain) == 1 and isinstance(chain[0], kinds):
                _class_of_its_own(layer)
                # under no_grad PyTorch would leave a tensor where a parameter belongs
                with torch.enable_grad():
                    parametrize.remove_parametrizations(layer, own, leave_parametrized=True)
                # several originals, none of them trained
                if not isinstance(getattr(layer, own), nn.Parameter):
                    weight = layer.get_buffer(own)
                    delattr(layer, own)
                    layer.register_parameter(own, nn.Parameter(weight, requires_grad=False))
    return module


def _class_of_its_own(layer: nn.Module) -> None:
    """Keep PyTorch from breaking other copies of a parametrised layer.

    A parametrised layer's weight is a property of a class made for it; copies share the class, and removing
    the parametrisation of one copy deletes the property for all.
    """
    shared = type(layer)
    members = {k: v for k, v in vars(shared).items() if k not in ("__dict__", "__weakref__")}
    layer.__class__ = type(shared.__name__, shared.__bases__, members)
