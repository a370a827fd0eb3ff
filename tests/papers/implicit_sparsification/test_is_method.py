"""Starts, forms, stacks, folding; penalties against autograd; schedules; algorithm 1 against a slow loop."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize as torch_parametrize

from repro.learn import Ensemble, initialization, load, perceptron
from repro.papers.implicit_sparsification import method
from repro.papers.implicit_sparsification.method import Pilot, Product, fold, parametrize, pilot_factors

ALL = {
    "pilot": Product,
    "balanced": lambda: Product(0.0),
    "power": lambda: method._SignedPower(2.5),
    "soft": method._SoftThreshold,
    "sigmoid": lambda: method._SigmoidMask(0.3),
}
INPUTS = torch.randn((4, 1, 6, 6), generator=torch.Generator().manual_seed(5))


def small(seed=0):
    with initialization(seed):
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))


# ---- starts and forms


@settings(max_examples=15)
@given(st.lists(st.floats(-3, 3, allow_subnormal=False), min_size=1, max_size=8), st.floats(1e-3, 5))
def test_factors_solve_their_two_equations(values, beta):
    x = np.array(values)
    m, w = pilot_factors(x, beta)
    assert (m > 0).all()
    np.testing.assert_allclose(m * w, x, rtol=1e-14)
    np.testing.assert_allclose(m**2 - w**2, beta, atol=1e-13 * (beta + np.abs(x).max()))
    m, w = pilot_factors(x, 0.0)
    np.testing.assert_allclose(m * w, x, rtol=1e-14)
    np.testing.assert_array_equal(m, np.abs(w))


@pytest.mark.parametrize(
    ("form", "formula"),
    [
        (Product(), lambda t: t[0] * t[1]),
        (method._SignedPower(3.0), lambda t: t[0].sign() * t[0].abs() ** t[1]),
        (method._SoftThreshold(), lambda t: t[0].sign() * (t[0].abs() - torch.sigmoid(t[1])).clamp(min=0)),
        (method._SigmoidMask(0.3), lambda t: t[0] * (1 + np.exp(-0.3)) / (1 + torch.exp(-t[1] * t[2]))),
    ],
    ids=["product", "power", "soft", "sigmoid"],
)
def test_forms_are_their_formulas(form, formula):
    x, move = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tensors = [t.clone().requires_grad_() for t in form.right_inverse(x)]
    torch.testing.assert_close(form(*tensors), x)
    tensors[0].data.add_(move)
    weights = form(*tensors)
    torch.testing.assert_close(weights, formula(tensors))
    found = torch.autograd.grad(weights.square().sum(), tensors)
    expected = torch.autograd.grad(formula(tensors).square().sum(), tensors, allow_unused=True)
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        if f"original{i}" not in getattr(form, "frozen", ()):
            torch.testing.assert_close(one, other)


# ---- stacks, effective weights, folding


@pytest.mark.parametrize("name", [*ALL, "plain"])
def test_forms_keep_the_function_stacks_equal_their_members_and_folding_keeps_every_bit(name):
    plain = [small(seed) for seed in range(2)]
    members = copy.deepcopy(plain)
    if name != "plain":
        members = [parametrize(member, ALL[name]) for member in members]
    ensemble = Ensemble(members)
    outputs, weights = ensemble(INPUTS), method._effective_weights(ensemble)
    for i, member in enumerate(members):
        expected = member(INPUTS)
        torch.testing.assert_close(expected, plain[i](INPUTS), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(outputs[i], expected, rtol=1e-5, atol=1e-5)
        for layer in (member[0], member[3]):
            assert torch_parametrize.is_parametrized(layer, "weight") == (name != "plain")
            assert not torch_parametrize.is_parametrized(layer, "bias")
            if name == "power":  # the exponent stays
                assert not layer.parametrizations.weight.original1.requires_grad
        own = {key: weight.clone() for key, weight in method._effective_weights(member).items()}
        for key, weight in own.items():
            torch.testing.assert_close(weights[key][i], weight)
        folded = fold(member)
        assert folded is member
        assert folded.state_dict().keys() == plain[i].state_dict().keys()
        assert all(torch.equal(folded.state_dict()[key], weight) for key, weight in own.items())
        assert torch.equal(folded(INPUTS), expected)


# ---- penalties

STRENGTHS = torch.tensor([0.3, 0.0, 1.7], dtype=torch.float64)


def ensemble_of(form):
    """Three networks in float64, random in all tensors, with gradients of 0."""
    members = [perceptron((3, 4, 2)).double() for _ in range(3)]
    stacked = Ensemble([parametrize(member, form) if form else member for member in members])
    generator = torch.Generator().manual_seed(0)
    for tensor in stacked.parameters.values():
        tensor.data.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        if tensor.requires_grad:
            tensor.grad = torch.zeros_like(tensor)
    return stacked


FORMULAS = {  # what acts, on what, twice what it gives
    "squares of factors": (method._squares, Product, lambda t: t[0] ** 2 + t[1] ** 2),
    "squares of weights": (method._squares, None, lambda t: t[0] ** 2),
    "and of thresholds": (method._squares, ALL["soft"], lambda t: t[0] ** 2 + t[1] ** 2 / t[0][0].numel()),
    "L1 of weights": (method._l1_of_first, None, lambda t: 2 * t[0].abs()),
    "L1 of a mask": (method._l1_of_first, Product, lambda t: 2 * t[0].abs()),
    "L1 of gates' numbers": (method._l1_of_second, ALL["sigmoid"], lambda t: 2 * t[1].abs()),
    "gates": (method._gates, ALL["sigmoid"], lambda t: torch.sigmoid(t[2] * t[1])),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_of_penalties_are_those_of_their_formulas(name):
    act, form, formula = FORMULAS[name]
    model = ensemble_of(form)
    method.Penalty(model, act, STRENGTHS)(model, 1)
    layers = method._weight_tensors(model).values()
    total = sum((STRENGTHS * formula(tensors).flatten(1).sum(dim=1)).sum() for tensors in layers)
    trained = [tensor for tensor in model.parameters.values() if tensor.requires_grad]
    for tensor, gradient in zip(trained, torch.autograd.grad(total, trained, allow_unused=True), strict=True):
        torch.testing.assert_close(tensor.grad, torch.zeros_like(tensor) if gradient is None else gradient)


@pytest.mark.parametrize("decays", [False, True])
def test_the_rest_decays_as_in_torch_and_weights_only_if_asked(decays):
    model = ensemble_of(Product)
    method.Penalty(model, None, STRENGTHS, weight_decay=0.01, decays=decays)()
    for name, tensor in model.parameters.items():
        behind = "original1" in name or ("original0" in name and not decays)
        torch.testing.assert_close(tensor.grad, (0.0 if behind else 0.01) * tensor.detach())


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_left_on_the_processor_when_the_network_is_elsewhere(name):
    """Tensors of the device ``meta`` have no numbers; operations with tensors of the processor are refused there."""
    network = parametrize(small().to("meta"), ALL[name])
    assert {tensor.device.type for tensor in network.parameters()} == {"meta"}
    network(INPUTS.to("meta")).sum().backward()
    act = method._gates if name == "sigmoid" else method._squares
    method.Penalty(network, act, 0.1, weight_decay=0.01)()


# ---- PILoT for networks of one's own


class Attentive(nn.Module):
    """A transformer layer over the eight rows of an image."""

    def __init__(self):
        super().__init__()
        self.rows, self.out = nn.Linear(8, 16), nn.Linear(16, 10)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)

    def forward(self, x):
        return self.out(self.layer(self.rows(x.unflatten(1, (8, 8)))).mean(dim=1))


def trained(network, alpha, n_epochs):
    """PILoT on digits with AdamW, up to the last epoch."""
    pilot = Pilot(network, alpha, n_epochs)
    stepper = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.0)
    digits, shuffle = load("digits", seed=0), torch.Generator().manual_seed(0)
    for _ in range(n_epochs):
        correct = 0
        for rows in torch.randperm(len(digits.y_train), generator=shuffle).split(64):
            outputs = network(digits.x_train[rows])
            stepper.zero_grad()
            nn.functional.cross_entropy(outputs, digits.y_train[rows]).backward()
            stepper.step()
            pilot.decay(stepper)
            correct += int((outputs.argmax(dim=1) == digits.y_train[rows]).sum())
        pilot.end_epoch(correct / len(digits.y_train))
    return pilot


def test_pilot_makes_a_convolutional_network_sparse():
    """The control is the same training without decay, whose smallest weights matter."""
    digits, right = load("digits", seed=0), {}
    with initialization(0):
        layers = nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
    for strength in (0.0, 1.0):
        network = trained(nn.Sequential(*copy.deepcopy(layers)), strength, 12).finish(sparsity=0.9)
        right[strength] = (network(digits.x_test).argmax(dim=1) == digits.y_test).double().mean().item()
    assert right[1.0] > max(0.87, right[0.0] + 0.05)


def test_pilot_reaches_the_queries_keys_and_values_of_a_transformer():
    with initialization(0):
        network = Attentive()
    plain = copy.deepcopy(network.state_dict())
    pilot = trained(network, 0.2, 2)
    assert pilot.plain == []
    images = load("digits", seed=0).x_test[:5]
    outputs = network(images)
    torch.testing.assert_close(network.eval()(images), outputs, atol=1e-5, rtol=1e-5)
    found = pilot.finish(sparsity=0.5).state_dict()
    assert found.keys() == plain.keys()
    matrices = [name for name, value in plain.items() if value.ndim > 1]
    assert "layer.self_attn.in_proj_weight" in matrices
    assert all(not torch.isclose(found[name], plain[name]).any(dim=1).all() for name in matrices)
    assert sum(int((found[n] == 0).sum()) for n in matrices) == sum(found[n].numel() for n in matrices) // 2
    assert (found["layer.self_attn.in_proj_weight"] == 0).any()


def test_decay_is_that_of_the_flow_whatever_the_optimizer_and_adds_up_to_the_dose():
    network = small()
    pilot = Pilot(network, 0.5, n_epochs=2)
    stepper = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.0)
    before = {name: [t.clone() for t in both] for name, both in method._weight_tensors(network).items()}
    for _ in range(2):
        pilot.decay(stepper)
    assert pilot.dose == pytest.approx(2 * 0.1 * 0.5)
    for name, both in method._weight_tensors(network).items():
        for tensor, first in zip(both, before[name], strict=True):
            torch.testing.assert_close(tensor.detach(), 0.9**2 * first)


def test_what_pilot_leaves_plain_is_told_and_what_it_cannot_do_is_refused():
    network = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    early = torch.optim.SGD(network.parameters(), lr=0.1)
    pilot = Pilot(network, 0.1, n_epochs=2)
    assert pilot.plain == ["0.weight"]
    with pytest.raises(ValueError, match="build it after"):
        pilot.decay(early)
    with pytest.raises(ValueError, match="1/2"):
        pilot.decay(torch.optim.SGD(network.parameters(), lr=5.0))


# ---- schedules, algorithm 1, the methods that are compared


def test_the_first_steps_of_each_schedule():
    assert method.schedule("constant", 3).tolist() == [1, 1, 1]
    assert (6 * method.schedule("harmonic", 3)).tolist() == [6, 3, 2]
    assert method.schedule("geometric", 3).tolist() == pytest.approx([0.95, 0.9025, 0.857375])
    assert method.schedule("half", 5).tolist() == pytest.approx([1, 1, 0.8, 0.64, 0.512])
    assert method.schedule("rising", 5).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert [method.schedule(name, 1).tolist() for name in ("half", "rising")] == [[0.8], [0]]


LEVELS = st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])] * 4)


@settings(max_examples=25)
@given(st.lists(LEVELS, min_size=1, max_size=9))
def test_algorithm_1_agrees_with_a_slow_loop_network_by_network(course):
    """An epoch's row: accuracies of two networks, their L1 norms."""
    n_epochs, rows = len(course), torch.tensor(course, dtype=torch.float64)
    alphas, start_l1 = [0.1, 0.2], [0.5 / 0.03, 25.0]
    rule = method.Algorithm1(n_epochs, torch.tensor(start_l1))
    found, before = torch.tensor(alphas, dtype=torch.float64), [0.0, 0.0]
    delta = 15 ** (1 / max(1, n_epochs // 2))
    for k, row in enumerate(course, start=1):
        found = rule(found, k, rows[k - 1, :2], rows[k - 1, 2:])
        for i in range(2):
            up = row[i] >= before[i] and row[2 + i] >= 0.03 * start_l1[i] and k <= n_epochs / 2
            alphas[i] *= delta if up else 1 / delta
        before = row
        assert found.tolist() == pytest.approx(alphas)


def test_every_method_has_as_many_choices_and_factors_have_their_own_start_and_no_other_decay():
    betas = {"pilot": 1.0, "mw": 1.0, "l1_m": 1.0, "pilot_algorithm": 1.0, "beta_0.01": 0.01, "spred": 0}
    for name, how in method.METHODS.items():
        assert len(set(how.choices)) == 28, name
        rates = {choice.rate for choice in how.choices}
        assert rates == {0.1, 0.2} or (name in ("x", "mw", "powerprop") and rates > {0.1, 0.2})
        network = perceptron((4, 3))
        if how.form:
            parametrize(network, partial(how.form, how.choices[0].knob))
        product = bool(how.form) and isinstance(network[1].parametrizations.weight[0], Product)
        assert product == (name in betas)
        assert how.decays == (not product and name not in ("x", "str"))  # theirs is the penalty
        if product:
            m, w = method._weight_tensors(network)["1.weight"]
            np.testing.assert_allclose((m**2 - w**2).detach(), betas[name], atol=1e-6)


# ---- what is refused


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: Pilot(nn.Sequential(nn.LSTM(3, 2)), 0.1, n_epochs=2), "recurrent"),
        (lambda: parametrize(small(), Product()), r"not Product\(\)"),
        (lambda: method.Penalty(small(), method._squares, -0.1), "got"),
    ],
)
def test_bad_input_is_refused(act, words):
    with pytest.raises((ValueError, TypeError), match=words):
        act()


def test_a_network_is_written_once_or_left_as_it_was():
    network = small()
    torch_parametrize.register_parametrization(network[3], "weight", Product())
    with pytest.raises(ValueError, match=r"3\.weight"):
        parametrize(network, Product)
    assert not torch_parametrize.is_parametrized(network[0])
    assert torch_parametrize.is_parametrized(parametrize(fold(network), method._SoftThreshold)[3])
    tied = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    tied[2].weight = tied[0].weight
    with pytest.raises(ValueError, match="one tensor"):
        parametrize(tied, Product)
    assert tied[2].weight is tied[0].weight
