"""Costs against numbers worked out by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from repro.prune import Mask, costs, magnitude, select


class Residual(nn.Module):
    """Two convolutions around a strided shortcut, as in a residual network."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.b = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.shortcut = nn.Conv2d(2, 4, 1, stride=2, bias=False)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        y = self.b(torch.relu(self.norm(self.a(x)))) + self.shortcut(x)
        return self.fc(y.mean((2, 3)))


def test_a_residual_network_by_hand():
    model = Residual()
    kept = torch.zeros(4, 2, 3, 3, dtype=torch.bool)
    kept[0, 0, 1, 1] = kept[3, 1, 0, 0] = True
    model.b.eval()  # a mixture of modes
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    count = costs(model, (2, 6, 6), Mask({"b.weight": kept}))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert count.multiply_adds == 9 * 72 + 9 * 72 + 9 * 8 + 12  # torch's counter agrees with the layers
    assert count.multiply_adds_kept == count.multiply_adds - 9 * 70
    assert count.n_parameters == 72 + 8 + 72 + 4 + 8 + 12 + 3
    assert count.n_parameters_kept == count.n_parameters - 70


ATTENTION = 5 * 4 * 64 + 2 * 5 * 5 * 8  # projections, and scores and what they weigh


LAYERS = [  # the model, an example's shape, multiply-adds of linear and convolutional layers, and of the rest
    (nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10)), (784,), 784 * 300 + 3000, 0),
    (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8), 5 * 2 * 128, ATTENTION),
    (nn.LSTM(8, 16, proj_size=4, batch_first=True), (5, 8), 0, 5 * (4 * 16 * (8 + 4) + 4 * 16)),
    (nn.Linear(3, 2, bias=False), (7, 3), 7 * 6, 0),
    (nn.Conv1d(3, 4, 3), (3, 6), 4 * 36, 0),
    (nn.Conv3d(3, 4, 3), (3, 5, 4, 3), 3 * 2 * 324, 0),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (4, 5, 5), 25 * 108, 0),
    (nn.Sequential(nn.LayerNorm((4, 3)), nn.Linear(3, 2)), (4, 3), 4 * 6, 0),
    (nn.Linear(3, 2).double().requires_grad_(False), (3,), 6, 0),
]


@pytest.mark.parametrize(("model", "shape", "of_weights", "other"), LAYERS)
def test_layers_by_hand(model, shape, of_weights, other):
    count = costs(model, shape)
    assert count.multiply_adds == count.multiply_adds_kept == of_weights + other
    if not other:  # attention and recurrent layers multiply otherwise
        assert costs(model, shape, select(magnitude(model), sparsity=1.0)).multiply_adds_kept == 0


def test_parametrised_and_shared_weights_and_what_does_not_fit():
    normed = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    parametrizations.weight_norm(normed[0])
    count = costs(normed, (3,))
    assert (count.multiply_adds, count.n_parameters) == (6, 2 + 6 + 2)  # lengths, directions, biases
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    assert costs(tied, (3,)).multiply_adds == 18
    with pytest.raises(ValueError, match=r"does not take one example of shape \(3, 6, 6\)"):
        costs(Residual(), (3, 6, 6))
    recurrent = nn.LSTM(3, 4)
    with pytest.raises(ValueError, match="multiplies by weight_ih_l0, weight_hh_l0: what goes there"):
        costs(recurrent, (5, 3), select(magnitude(recurrent), sparsity=1.0))
