"""Random crops and flips: against a loop over images, reproducible, uniform, and in training."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn

from repro.learn import Ensemble, initialization, load, train
from repro.learn.augmentation import CropFlip, random_crop_flip


def _generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_generator(0))


def _loop(x: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """The definition, pixel by pixel, with the same draws in the same order."""
    n_images, _, height, width = x.shape
    down, right = torch.randint(2 * padding + 1, (2, n_images), generator=generator).tolist()
    mirrored = torch.randint(2, (n_images,), generator=generator).tolist() if flip else [0] * n_images
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
@pytest.mark.parametrize("flip", [True, False])
def test_each_image_is_cropped_as_the_definition_says(padding: int, flip: bool) -> None:
    x = _images(12, 3, 7, 5)
    got = random_crop_flip(padding, flip)(x, _generator())
    assert torch.equal(got, _loop(x, padding, flip, _generator()))


def test_members_have_images_drawn_apart() -> None:
    x = _images(2, 9, 3, 6, 6)
    got = random_crop_flip(2)(x, _generator())
    assert torch.equal(got.flatten(0, 1), _loop(x.flatten(0, 1), 2, True, _generator()))
    same = random_crop_flip(2)(x[:1].expand(2, -1, -1, -1, -1), _generator())
    assert not torch.equal(same[0], same[1])


class _Fixed(CropFlip):
    """Offsets that are given instead of drawn."""

    def _draw(self, n_images: int, generator: torch.Generator) -> Tensor:
        return torch.tensor([[self.padding, 0], [self.padding, 0], [0, 1]])


def test_an_offset_of_the_padding_leaves_the_image_and_zero_moves_it_to_the_corner() -> None:
    x = _images(2, 3, 5, 6)
    got = _Fixed(2, True)(x, _generator())
    assert torch.equal(got[0], x[0])
    expected = torch.zeros(3, 5, 6)
    expected[:, 2:, 2:] = x[1, :, :3, :4]  # the crop begins two above and left of the image
    assert torch.equal(got[1], expected.flip(-1))


def test_without_padding_and_flip_nothing_changes_and_with_flip_half_are_mirrored() -> None:
    x = _images(400, 1, 3, 3)
    assert torch.equal(random_crop_flip(0, flip=False)(x, _generator()), x)
    got = random_crop_flip(0)(x, _generator())
    kept, mirrored = ((got == each).flatten(1).all(dim=1) for each in (x, x.flip(-1)))
    assert torch.equal(kept, ~mirrored)
    assert chisquare(np.bincount(mirrored.numpy())).pvalue > 1e-3


def test_all_offsets_are_equally_frequent() -> None:
    n = 9000
    x = torch.zeros(n, 1, 5, 5)
    x[:, :, 2, 2] = 1  # one dot, which tells where the crop began
    got = random_crop_flip(1, flip=False)(x, _generator())
    assert torch.equal(got.sum(dim=(1, 2, 3)), torch.ones(n))
    counts = got.sum(dim=(0, 1))[1:4, 1:4].flatten().numpy()
    assert counts.sum() == n
    assert chisquare(counts).pvalue > 1e-3


def test_the_generator_decides_and_advances() -> None:
    x, crop = _images(8, 3, 8, 8), random_crop_flip()
    generator = _generator()
    first, second = crop(x, generator), crop(x, generator)
    assert torch.equal(first, crop(x, _generator()))
    assert not torch.equal(first, second)
    assert not torch.equal(first, crop(x, _generator(4)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_type_and_shape_stay_and_the_input_is_not_changed(dtype: torch.dtype) -> None:
    x = _images(4, 3, 8, 6).to(dtype).to(memory_format=torch.channels_last)
    before = x.clone()
    got = random_crop_flip(3)(x, _generator())
    assert (got.dtype, got.shape, got.device) == (dtype, x.shape, x.device)
    assert torch.equal(x, before)
    assert torch.equal(got.double(), random_crop_flip(3)(before.double(), _generator()))


def test_training_with_it_is_reproducible_and_other_than_without() -> None:
    dataset = load("digits", seed=0, images=True, train=200, validation=50, test=50)

    def weights(**options: object) -> Tensor:
        members = []
        for seed in range(2):
            with initialization(seed):
                members.append(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
        ensemble = Ensemble(members)
        sgd = partial(torch.optim.SGD, lr=0.1)
        train(
            ensemble, dataset, optimizer=sgd, n_epochs=1, batch_size=50, seed=[0, 1], device="cpu", **options
        )
        return torch.cat([p.detach().flatten() for p in ensemble.parameters.values()])

    augmented = weights(augment=random_crop_flip(1, flip=False))
    assert torch.equal(augmented, weights(augment=random_crop_flip(1, flip=False)))
    assert not torch.allclose(augmented, weights())
    assert torch.equal(weights(augment=random_crop_flip(0, flip=False)), weights())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_gives_the_same_images() -> None:
    x = _images(3, 16, 3, 32, 32)
    got = random_crop_flip()(x.cuda(), _generator())
    assert got.is_cuda
    assert torch.equal(got.cpu(), random_crop_flip()(x, _generator()))


def test_bad_input_is_named() -> None:
    for padding in (-1, 1.5, True):
        with pytest.raises(ValueError, match=f"padding must be a whole number of pixels.*got {padding!r}"):
            random_crop_flip(padding)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="flip must be True or False; got 'yes'"):
        random_crop_flip(flip="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got \(8, 64\) of torch.float32"):
        random_crop_flip()(torch.zeros(8, 64), _generator())
    with pytest.raises(ValueError, match=r"got \(2, 1, 4, 4\) of torch.uint8"):
        random_crop_flip()(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), _generator())


def test_equal_arguments_give_equal_augmentations() -> None:
    assert random_crop_flip() == random_crop_flip(4, True) != random_crop_flip(2)
