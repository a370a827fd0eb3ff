"""Each member of an ensemble is what it would be alone: outputs, gradients, whole training runs."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from small_networks import small_cnn
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from repro.learn import Ensemble, perceptron
from repro.papers.ewn_inductive_bias import ExponentialWeightNorm

S = 3


class OneByOne(ExponentialWeightNorm):
    stackable = False


class Scaled(nn.Module):
    """A parametrization with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, weight):
        return self.scale * weight


def parametrised(kind):
    def build():
        network = perceptron((64, 12, 10))
        for layer in (network[1], network[3]):
            parametrize.register_parametrization(layer, "weight", kind())
        return network

    return build


def recurrent_use():
    """One linear layer used twice: a tensor that two places share."""
    layer = nn.Linear(64, 64)
    return nn.Sequential(nn.Flatten(), layer, nn.Tanh(), layer, nn.ReLU(), nn.Linear(64, 10))


def half_frozen():
    network = perceptron((64, 12, 10))
    network[3].weight.requires_grad_(False)
    return network


BUILD = {
    "perceptron": lambda: perceptron((64, 16, 12, 10)),
    "without biases": lambda: perceptron((64, 16, 10), bias=False, activation="tanh"),
    "squared relu": lambda: perceptron((64, 16, 10), activation="squared_relu"),
    "half frozen": half_frozen,
    "exponential length": parametrised(OneByOne),
    "stackable": parametrised(ExponentialWeightNorm),
    "own parameter": parametrised(Scaled),
    "weight_norm": parametrised(parametrizations._WeightNorm),
    "shared layer": recurrent_use,
    "cnn": lambda: small_cnn(width=3),
    "cnn, batch norm": lambda: small_cnn(width=3, batch_norm=True),
    "cnn, batch norm, as on a GPU": lambda: small_cnn(width=3, batch_norm=True),
}

BY_TORCH_FUNC = {"own parameter", "shared layer", "cnn", "cnn, batch norm", "cnn, batch norm, as on a GPU"}
OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": partial(torch.optim.Adam, lr=1e-2),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch's weight_norm under vmap
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", BUILD)
def test_members_train_as_alone(kind, optimizer):
    r"""Fifteen steps in float64, in which a rounded gradient cannot be taken for a mistake.

    Adam divides a gradient by its own size: the first step is $\eta\,g/(|g|+\epsilon)$. Where a sum of products
    happens to cancel to almost nothing, the rounding of the products is a visible part of $g$, and so of the step.
    Rounding of one ulp of a layer's largest gradient then moves weights by up to 2.4e-5 in float32, and 1e-14 in
    float64 (40 seeds); members that take each other's batches move by about $\eta$ = 1e-2.
    """
    members = [BUILD[kind]().double() for _ in range(S)]
    alone = copy.deepcopy(members)
    ensemble = Ensemble(members)
    ensemble._convolutional &= "GPU" not in kind
    assert ("batched matrix products" in repr(ensemble)) == (kind not in BY_TORCH_FUNC)
    together = OPTIMIZERS[optimizer]([p for p in ensemble.parameters.values() if p.requires_grad])
    singles = [OPTIMIZERS[optimizer]([p for p in m.parameters() if p.requires_grad]) for m in alone]
    close = partial(torch.testing.assert_close, atol=1e-9, rtol=1e-9)
    for step in range(15):
        per_member = step % 2 == 0
        x = torch.randn((S, 20, 1, 8, 8) if per_member else (20, 1, 8, 8), dtype=torch.float64)
        y = torch.randint(10, (S, 20))
        together.zero_grad()
        outputs = ensemble(x, per_member=per_member)
        sum(F.cross_entropy(outputs[i], y[i]) for i in range(S)).backward()
        together.step()
        for i in range(S):
            singles[i].zero_grad()
            F.cross_entropy(alone[i](x[i] if per_member else x), y[i]).backward()
            singles[i].step()
    for module, expected in zip(ensemble, alone, strict=True):
        close(dict(module.state_dict()), dict(expected.state_dict()))
    ensemble.eval()
    x = torch.randn(7, 1, 8, 8, dtype=torch.float64)
    close(ensemble(x), torch.stack([module.eval()(x) for module in alone]))


def test_members_are_copies_both_ways():
    members = [perceptron((3, 2)) for _ in range(2)]
    ensemble = Ensemble(members)
    before = ensemble.parameters["1.weight"].detach().clone()
    with torch.no_grad():
        members[0][1].weight += 1
        ensemble.member(1)[1].weight.add_(1)
    assert torch.equal(ensemble.parameters["1.weight"], before)
    assert torch.equal(ensemble.member(-1)[1].weight, before[1])
    assert len(ensemble) == len(list(ensemble)) == 2


def test_state_round_trip_rewinds():
    ensemble = Ensemble([small_cnn(width=2, batch_norm=True) for _ in range(2)])
    x = torch.randn(4, 1, 8, 8)
    start, outputs = ensemble.state_dict(), ensemble.eval()(x)
    ensemble.train()(x)
    with torch.no_grad():
        ensemble.parameters["0.weight"].zero_()
    assert not torch.allclose(ensemble.eval()(x), outputs)
    ensemble.load_state_dict(start)
    torch.testing.assert_close(ensemble(x), outputs)
    with pytest.raises(ValueError, match=r"0\.weight"):
        ensemble.load_state_dict({k: v for k, v in start.items() if k != "0.weight"})
    with pytest.raises(ValueError, match=r"0\.weight"):
        ensemble.load_state_dict(start | {"0.weight": torch.zeros(1)})


def tied_tensors():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    return network


class Wrong(nn.Module):
    stackable = True

    def forward(self, weight):
        return weight / weight.norm()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (lambda: [], "at least one member"),
        (lambda: [perceptron((3, 2)), perceptron((3, 4))], "member 0 and member 1 differ"),
        (lambda: [perceptron((3, 2)), perceptron((3, 2)).double()], "float64"),
        (lambda: [half_frozen(), perceptron((64, 12, 10))], "differ in"),
        (lambda: [tied_tensors()], "two layers share"),
        (lambda: [parametrised(Wrong)(), parametrised(Wrong)()], "stackable"),
    ],
)
def test_bad_members_are_refused(members, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(members())


def test_bad_calls_are_refused():
    ensemble = Ensemble([perceptron((3, 2)) for _ in range(2)])
    with pytest.raises(ValueError, match=r"S = 2; got \(5, 3\)"):
        ensemble(torch.zeros(5, 3), per_member=True)
    with pytest.raises(RuntimeError, match="random"):
        Ensemble([nn.Sequential(nn.Linear(3, 2), nn.Dropout())] * 2)(torch.zeros(5, 3))
