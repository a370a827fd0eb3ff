"""Random crops and flips of images, drawn for each image of a batch, on the device of the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["CropFlip", "random_crop_flip"]


def random_crop_flip(padding: int = 4, flip: bool = True) -> CropFlip:
    r"""Return the augmentation usual for CIFAR: a zero-padded random crop and a horizontal flip of each image.

    With the image $x$ zero outside of its $H\times W$ pixels, $i, j$ uniform on $\{0,\dots,2p\}$ and $s$ a fair
    coin, all drawn anew for each image,
    $$x'_{c,h,w} = x_{c,\,h+i-p,\,w'+j-p},\qquad w' = w \text{ or } W-1-w \text{ as } s \text{ falls.}$$

    The zeros are put in where the images are, so that on standardized images the border has the mean color, not
    black. Not to be confused with ``torchvision.transforms.v2.RandomCrop`` and ``RandomHorizontalFlip``, which
    draw once for a whole batch: all its images would be shifted alike.

    Args:
        padding: $p$, pixels on each side, 0 or above.
        flip: whether each image is flipped with probability 1/2.

    Returns:
        A callable as ``learn.train`` takes for ``augment``; equal arguments give equal (``==``) ones.

    Raises:
        ValueError: padding is not a whole number or negative; ``flip`` is not a bool.
    """
    if isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
        raise ValueError(f"padding must be a whole number of pixels, 0 or above; got {padding!r}")
    if not isinstance(flip, bool):
        raise ValueError(f"flip must be True or False; got {flip!r}")
    return CropFlip(padding, flip)


@dataclass(frozen=True)
class CropFlip:
    """What ``random_crop_flip`` makes; see there.

    Attributes:
        padding: pixels on each side.
        flip: whether images are flipped with probability 1/2.
    """

    padding: int
    flip: bool

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images of the same shape, type and device, each cropped and flipped by draws of its own.

        Args:
            x: images ``(b, C, H, W)`` or ``(S, b, C, H, W)``, floating point.
            generator: of the draws, on any device; one on the CPU gives the same images on every device.

        Raises:
            ValueError: another number of dimensions, or images of whole numbers.
        """
        if x.ndim not in (4, 5) or not x.is_floating_point():
            raise ValueError(
                f"images are floating point, (b, C, H, W) or (S, b, C, H, W); got {tuple(x.shape)} of {x.dtype}"
            )
        *_, height, width = x.shape
        down, right, flipped = self._draw(x.shape[:-3].numel(), generator).to(x.device, non_blocking=True)
        rows = torch.arange(height, device=x.device) + down[:, None]
        columns = torch.arange(width, device=x.device).expand(len(right), width)
        columns = torch.where(flipped[:, None] == 1, width - 1 - columns, columns) + right[:, None]
        padded = functional.pad(x, [self.padding] * 4).flatten(-2).reshape(len(right), x.shape[-3], -1)
        pixels = rows[:, :, None] * (width + 2 * self.padding) + columns[:, None, :]
        chosen = pixels.flatten(1)[:, None].expand(-1, x.shape[-3], -1)
        return padded.gather(-1, chosen).view(x.shape)

    def _draw(self, n_images: int, generator: torch.Generator) -> Tensor:
        """Offsets down and right, 0 to 2p, and 0 or 1 for the flip: ``(3, n_images)``, to be moved at once."""
        device = generator.device
        offsets = torch.randint(2 * self.padding + 1, (2, n_images), generator=generator, device=device)
        if not self.flip:
            return torch.cat([offsets, offsets.new_zeros(1, n_images)])
        return torch.cat([offsets, torch.randint(2, (1, n_images), generator=generator, device=device)])
