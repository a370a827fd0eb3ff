"""Costs: against numbers worked out by hand."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from repro.prune import Mask, costs, magnitude, select


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


def test_a_residual_network_by_hand():
    model = Residual()
    kept = torch.zeros(4, 2, 3, 3, dtype=torch.bool)
    kept[0, 0, 1, 1] = kept[3, 1, 0, 0] = True
    model.b.eval()  # a mixture of modes
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    count = costs(model, (2, 6, 6), Mask({"b.weight": kept}))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    table = count.by_weight
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


class Chain(nn.Module):
    """Layers one after the other: attention to itself, and of recurrent layers the outputs."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x, x, x) if isinstance(layer, nn.MultiheadAttention) else layer(x)
            x = x[0] if isinstance(x, tuple) else x
        return x


SCORES = 2 * 5 * 5 * 8  # of attention, and what they weigh: no parameter stands in either


LAYERS = [  # the model, an example's shape, multiply-adds with a weight, and without
    (nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10)), (784,), 784 * 300 + 3000, 0),
    (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8), 5 * (4 * 64 + 2 * 128), SCORES),
    (Chain(nn.MultiheadAttention(8, 2, batch_first=True)), (5, 8), 5 * 4 * 64, SCORES),
    (Chain(nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 2)), (5, 8), 5 * 4 * 16 * (8 + 16) + 5 * 32, 0),
    (Chain(nn.LSTM(8, 16, proj_size=4, batch_first=True)), (5, 8), 5 * (4 * 16 * (8 + 4) + 4 * 16), 0),
    (Chain(nn.GRU(8, 16, batch_first=True, bidirectional=True)), (5, 8), 2 * 5 * 3 * 16 * (8 + 16), 0),
    (nn.RNNCell(8, 16), (8,), 16 * (8 + 16), 0),
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
    assert costs(model, shape, select(magnitude(model), sparsity=1.0)).multiply_adds_kept == other


class Function(nn.Module):
    """A function of inputs and one parameter of ones, and a buffer of ones beside it."""

    def __init__(self, function: Callable[..., torch.Tensor], *shape: int) -> None:
        super().__init__()
        self.function, self.w = function, nn.Parameter(torch.ones(shape))
        self.register_buffer("m", torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, self.w, self.m)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, w, m: torch.einsum("bi,oi->bo", x, w), {"w": 12}),
        (lambda x, w, m: torch.addmv(torch.zeros(4), w, x[0]), {"w": 12}),
        (lambda x, w, m: w @ x[0], {"w": 12}),
        (lambda x, w, m: w[0] @ x[0], {"w": 3}),
        (lambda x, w, m: x @ w[:2].T, {"w": 6}),
        (lambda x, w, m: x @ w.T @ w, {"w": 24}),
        (lambda x, w, m: x @ (w.T @ w), {"(other)": 9}),  # the product of weights is none of an example
        (lambda x, w, m: x * m @ w.T, {"w": 48}),
        (lambda x, w, m: m.copy_(x.expand(4, 3)) @ w.T, {"w": 48}),
        (lambda x, w, m: x + w, {}),
        (lambda x, w, m: x * w[0], {}),
    ],
)
def test_products_of_a_module_of_your_own(function, expected):
    assert costs(Function(function, 4, 3), (3,)).by_weight["multiply_adds"].to_dict() == expected


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x, w, m: (x[:, None] * w).sum(-1), r"aten\.mul multiply"),
        (lambda x, w, m: x @ (w * m).T, r"aten\.mul multiply"),
        (lambda x, w, m: nn.functional.bilinear(x, x, w[None, :3]), r"aten\._trilinear multiply"),
        (lambda x, w, m: torch.cdist(x, w), r"aten\._cdist_forward multiply"),
        (lambda x, w, m: torch.ops.repro_test.stranger(x), r"repro_test\.stranger multiply"),
    ],
)
def test_what_is_not_counted_is_refused_by_name(function, operation):
    @torch.library.custom_op("repro_test::stranger", mutates_args=())
    def stranger(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    stranger.register_fake(torch.empty_like)
    with pytest.raises(ValueError, match=rf"not known what {operation}; counted are matrix products"):
        costs(Function(function, 4, 3), (3,))


def test_the_parts_of_a_weight_that_are_used_unequally():
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x[:, :2], x, x)[0]

    queries = torch.ones(24, 8, dtype=torch.bool)
    queries[:8] = False
    count = costs(Cross(), (5, 8), Mask({"attention.in_proj_weight": queries}))
    row = count.by_weight.loc["attention.in_proj_weight"]
    assert row["multiply_adds"] == 2 * 64 + 5 * 128
    assert row["multiply_adds_kept"] == 5 * 128


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_mask_counts_in_any_memory_layout(memory_format):
    model = nn.Conv2d(3, 4, 3).to(memory_format=memory_format)
    mask = select({"weight": torch.arange(108.0).reshape(4, 3, 3, 3)}, n_pruned=10)
    assert costs(model, (3, 5, 5), mask).multiply_adds_kept == 9 * (108 - 10)


def test_parametrised_and_shared_weights_and_what_does_not_fit():
    normed = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    parametrizations.weight_norm(normed[0])
    count = costs(normed, (3,))
    assert (count.multiply_adds, count.n_parameters) == (6, 2 + 6 + 2)  # lengths, directions, biases
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    assert costs(tied, (3,)).by_weight["multiply_adds"].to_dict() == {"0.weight": 18}
    with pytest.raises(ValueError, match=r"does not take one example of shape \(3, 6, 6\)"):
        costs(Residual(), (3, 6, 6))
    with pytest.raises(ValueError, match=r"did you mean 'a\.weight'"):
        costs(Residual(), (2, 6, 6), Mask({"a.weights": torch.ones(1, dtype=torch.bool)}))
