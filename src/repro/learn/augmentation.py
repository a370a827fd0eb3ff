"""Random crops and flips of images, drawn for each image of a batch, on the device of the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["random_crop_flip"]


def random_crop_flip(x: Tensor, generator: torch.Generator, *, padding: int = 4) -> Tensor:
    r"""The augmentation usual for CIFAR: a zero-padded random crop and a horizontal flip of each image.

    With the image $x$ zero outside of its $H\times W$ pixels, $i, j$ uniform on $\{0,\dots,2p\}$ and $s$ a fair
    coin, all drawn anew for each image,
    $$x'_{c,h,w} = x_{c,\,h+i-p,\,w'+j-p},\qquad w' = w \text{ or } W-1-w \text{ as } s \text{ falls.}$$

    The zeros are put in where the images are, so that on standardized images the border has the mean color, not
    black. Not to be confused with ``torchvision.transforms.v2.RandomCrop`` and ``RandomHorizontalFlip``, which
    draw once for a whole batch: all its images would be shifted alike. ``learn.train`` takes it for ``augment``,
    and ``partial(random_crop_flip, padding=2)`` too.

    Args:
        x: images ``(b, C, H, W)`` or ``(S, b, C, H, W)``, floating point.
        generator: of the draws, on any device; one on the CPU gives the same images on every device.
        padding: $p$, pixels on each side, 0 or above.

    Returns:
        Images of the same shape, type and device.

    Raises:
        ValueError: another number of dimensions, or images of whole numbers.
    """
    if x.ndim not in (4, 5) or not x.is_floating_point():
        raise ValueError(
            f"images are floating point, (b, C, H, W) or (S, b, C, H, W); got {tuple(x.shape)} of {x.dtype}"
        )
    *_, channels, height, width = x.shape
    n, device = x.shape[:-3].numel(), generator.device
    offsets = torch.randint(2 * padding + 1, (2, n), generator=generator, device=device)
    coins = torch.randint(2, (1, n), generator=generator, device=device)
    # moved at once
    down, right, flipped = torch.cat([offsets, coins]).to(x.device, non_blocking=True)
    rows = torch.arange(height, device=x.device) + down[:, None]
    columns = torch.arange(width, device=x.device).expand(n, width)
    columns = torch.where(flipped[:, None] == 1, width - 1 - columns, columns) + right[:, None]
    padded = functional.pad(x, [padding] * 4).flatten(-2).reshape(n, channels, -1)
    pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    return padded.gather(-1, pixels.flatten(1)[:, None].expand(-1, channels, -1)).view(x.shape)
