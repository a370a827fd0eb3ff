"""Costs: against numbers worked out by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from repro.prune import Mask, costs, magnitude, parameter_counts, select, unit_mask


class Residual(nn.Module):
    """Two convolutions around a strided shortcut, as in a residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.b = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.shortcut = nn.Conv2d(2, 4, 1, stride=2, bias=False)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.b(torch.relu(self.norm(self.a(x)))) + self.shortcut(x)
        return self.fc(y.mean((2, 3)))


def test_a_perceptron_by_hand():
    model = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10))
    count = costs(model, (784,))
    assert count.n_parameters == count.n_parameters_kept == 784 * 300 + 300 + 300 * 10 + 10
    assert count.multiply_adds == count.multiply_adds_kept == 784 * 300 + 300 * 10
    assert list(count.by_layer["positions"]) == [1, 1]


def test_a_strided_and_padded_convolution_by_hand():
    # (8 + 2 - 3) // 2 + 1 = 4 rows, (5 + 2 - 3) // 2 + 1 = 3 columns
    model = nn.Conv2d(3, 7, 3, stride=2, padding=1)
    mask = unit_mask(model, "", torch.tensor([True] * 5 + [False] * 2))
    count = costs(model, (3, 8, 5), mask)
    assert count.multiply_adds == 12 * 7 * 27
    assert count.multiply_adds_kept == 12 * 5 * 27
    assert (count.n_parameters, count.n_parameters_kept) == (7 * 28, 5 * 28)


def test_a_residual_network_by_hand():
    model = Residual()
    kept = torch.zeros(4, 2, 3, 3, dtype=torch.bool)
    kept[0, 0, 1, 1] = kept[3, 1, 0, 0] = True
    count = costs(model, (2, 6, 6), Mask({"b.weight": kept}))
    table = count.by_layer
    assert table["positions"].to_dict() == {
        "a.weight": 9,
        "b.weight": 9,
        "shortcut.weight": 9,
        "fc.weight": 1,
    }
    assert table["multiply_adds"].to_dict() == {
        "a.weight": 9 * 72,
        "b.weight": 9 * 72,  # two groups: each output channel sees two of four input channels
        "shortcut.weight": 9 * 8,
        "fc.weight": 12,
    }
    assert table.loc["b.weight", "multiply_adds_kept"] == 9 * 2
    assert count.multiply_adds == 9 * 72 + 9 * 72 + 9 * 8 + 12  # torch's counter agrees with the layers
    assert count.multiply_adds_kept == count.multiply_adds - 9 * 70
    assert count.n_parameters == 72 + 8 + 72 + 4 + 8 + 12 + 3
    assert count.n_parameters_kept == count.n_parameters - 70


def test_a_layer_used_twice_and_vectors_in_a_sequence_count_each_time():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.fc(x))

    count = costs(Twice(), (5, 4))
    assert count.by_layer.loc["fc.weight", "positions"] == 10
    assert count.multiply_adds == 160


def test_what_no_layer_of_ours_multiplies_is_counted_and_never_saved():
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.fc(x)
            return y @ torch.ones(3, 5)

    model = Square()
    count = costs(model, (3,), select(magnitude(model), sparsity=1.0))
    assert count.by_layer.loc["(other)", "multiply_adds"] == 15
    assert (count.multiply_adds, count.multiply_adds_kept) == (24, 15)


def test_an_empty_and_a_full_mask():
    model = Residual()
    full, empty = Mask.dense(model), select(magnitude(model), sparsity=1.0)
    assert costs(model, (2, 6, 6), full).multiply_adds_kept == costs(model, (2, 6, 6)).multiply_adds
    assert costs(model, (2, 6, 6), empty).multiply_adds_kept == 0
    assert parameter_counts(model, empty) == (179, 15)  # biases and normalization stay


def test_counting_leaves_the_network_as_it_was():
    model = Residual()
    model.b.eval()  # a mixture of modes
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    costs(model, (2, 6, 6))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())


def test_float64_and_parametrised_networks_are_counted():
    assert costs(nn.Linear(3, 2).double(), (3,)).multiply_adds == 6
    normed = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    parametrizations.weight_norm(normed[0])
    count = costs(normed, (3,))
    assert count.multiply_adds == 6
    assert count.n_parameters == 2 + 6 + 2  # lengths, directions, biases


def test_errors():
    model = Residual()
    with pytest.raises(ValueError, match=r"does not take one example of shape \(3, 6, 6\)"):
        costs(model, (3, 6, 6))
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match=r"did you mean 'a\.weight'"):
        costs(model, (2, 6, 6), Mask({"a.weights": torch.ones(1, dtype=torch.bool)}))
