"""Random crops and flips: against a loop over images, reproducible, uniform, and in training."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from repro.learn import random_crop_flip


def _generator(seed=3):
    return torch.Generator().manual_seed(seed)


def _images(*shape):
    return torch.randn(*shape, generator=_generator(0))


def _loop(x, padding, generator):
    """The definition, pixel by pixel, with the same draws in the same order."""
    n_images, _, height, width = x.shape
    down, right = torch.randint(2 * padding + 1, (2, n_images), generator=generator).tolist()
    mirrored = torch.randint(2, (n_images,), generator=generator).tolist()
    out = torch.zeros_like(x)
    for n in range(n_images):
        for h in range(height):
            for w in range(width):
                row = h + down[n] - padding
                column = (width - 1 - w if mirrored[n] else w) + right[n] - padding
                if 0 <= row < height and 0 <= column < width:
                    out[n, :, h, w] = x[n, :, row, column]
    return out


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("shape", [(12, 3, 7, 5), (2, 9, 3, 6, 6)])
def test_each_image_of_each_member_is_cropped_as_the_definition_says(shape, padding):
    x = _images(*shape)
    got = random_crop_flip(x, _generator(), padding=padding)
    assert torch.equal(got.flatten(0, -4), _loop(x.flatten(0, -4), padding, _generator()))


def test_all_offsets_and_both_mirrorings_are_equally_frequent():
    n = 9000
    x = torch.zeros(n, 1, 5, 5)
    x[:, :, 2, 2] = 1  # one dot, which tells where the crop began
    got = random_crop_flip(x, _generator(), padding=1)
    counts = got.sum(dim=(0, 1))[1:4, 1:4].flatten().numpy()
    assert counts.sum() == n
    assert chisquare(counts).pvalue > 1e-3
    x = _images(400, 1, 3, 3)
    got = random_crop_flip(x, _generator(), padding=0)
    kept, mirrored = ((got == each).flatten(1).all(dim=1) for each in (x, x.flip(-1)))
    assert torch.equal(kept, ~mirrored)
    assert chisquare(np.bincount(mirrored.numpy())).pvalue > 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_gives_the_same_images():
    x = _images(3, 16, 3, 32, 32)
    got = random_crop_flip(x.cuda(), _generator())
    assert got.is_cuda
    assert torch.equal(got.cpu(), random_crop_flip(x, _generator()))


def test_rows_of_numbers_are_no_images():
    with pytest.raises(ValueError, match=r"got \(8, 64\) of torch.float32"):
        random_crop_flip(torch.zeros(8, 64), _generator())
