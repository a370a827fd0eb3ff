"""Residual networks for small images, with and without batch normalization."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BasicBlock", "ResNet", "resnet18", "resnet20"]


def _convolution(n_in: int, n_out: int, size: int, stride: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(n_in, n_out, size, stride, padding=size // 2, bias=not batch_norm)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(n_out))
    return nn.Sequential(*layers)


class _Subsample(nn.Module):
    """Shortcut without parameters: every second pixel, missing channels filled with zeros (option A)."""

    def __init__(self, n_missing: int, stride: int) -> None:
        super().__init__()
        self.n_missing, self.stride = n_missing, stride

    def forward(self, x: Tensor) -> Tensor:
        before = self.n_missing // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.n_missing - before))


class BasicBlock(nn.Module):
    r"""$\mathrm{relu}(x' + F(x))$ with two 3x3 convolutions in $F$ and $x'$ the shortcut of $x$."""

    def __init__(self, n_in: int, n_out: int, stride: int, batch_norm: bool, projection: bool) -> None:
        super().__init__()
        self.first = _convolution(n_in, n_out, 3, stride, batch_norm)
        self.second = _convolution(n_out, n_out, 3, 1, batch_norm)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            if projection:
                self.shortcut = _convolution(n_in, n_out, 1, stride, batch_norm)
            else:
                self.shortcut = _Subsample(n_out - n_in, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.second(F.relu(self.first(x))))


class ResNet(nn.Module):
    """A 3x3 convolution, stages of basic blocks, mean over pixels, a linear layer."""

    def __init__(
        self,
        widths: tuple[int, ...],
        blocks: int,
        n_channels: int,
        n_classes: int,
        batch_norm: bool,
        projection: bool,
    ) -> None:
        super().__init__()
        self.stem = _convolution(n_channels, widths[0], 3, 1, batch_norm)
        stages: list[nn.Module] = []
        n_in = widths[0]
        for i, width in enumerate(widths):
            for j in range(blocks):
                stages.append(BasicBlock(n_in, width, 2 if i > 0 and j == 0 else 1, batch_norm, projection))
                n_in = width
        self.blocks = nn.Sequential(*stages)
        self.linear = nn.Linear(n_in, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        # mean over pixels rather than adaptive pooling, whose gradient has no deterministic version on CUDA
        return self.linear(self.blocks(F.relu(self.stem(x))).mean(dim=(2, 3)))


def _checked(n_channels: int, n_classes: int) -> None:
    for name, number in (("n_channels", n_channels), ("n_classes", n_classes)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number, 1 or above; got {number!r}")


def resnet20(n_channels: int = 3, n_classes: int = 10, batch_norm: bool = True) -> ResNet:
    """Residual network of 20 layers for 32x32 images: widths 16, 32, 64; shortcuts without weights.

    Args:
        n_channels: of the images.
        n_classes: outputs.
        batch_norm: normalise after each convolution; without it the convolutions have biases.

    Returns:
        Module from images ``(n, n_channels, height, width)`` to logits ``(n, n_classes)``.

    Raises:
        ValueError: a number below 1.

    Source: He, Zhang, Ren & Sun (2016), section 4.2, shortcut option A.
    """
    _checked(n_channels, n_classes)
    return ResNet((16, 32, 64), 3, n_channels, n_classes, batch_norm, projection=False)


def resnet18(n_channels: int = 3, n_classes: int = 10, batch_norm: bool = True) -> ResNet:
    """Residual network of 18 layers for 32x32 images: widths 64 to 512; 1x1 convolutions as shortcuts.

    The stem is a 3x3 convolution of stride 1 without pooling, as is usual for small images; the network of
    the same name for ImageNet begins with a 7x7 convolution of stride 2 and pooling.

    Args, returns and errors as in ``resnet20``.

    Source: He, Zhang, Ren & Sun (2016), table 1, with the stem for small images.
    """
    _checked(n_channels, n_classes)
    return ResNet((64, 128, 256, 512), 2, n_channels, n_classes, batch_norm, projection=True)
