"""Forms of weights: their starts, the function they keep, stacks, gradients, folding, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize

from repro.learn import Ensemble, initialization, load, perceptron, small_cnn, train
from repro.papers.implicit_sparsification.factors import (
    Product,
    SigmoidMask,
    SignedPower,
    SoftThreshold,
    balanced_factors,
    effective_weights,
    fold,
    parametrize_weights,
    pilot_factors,
    weight_tensors,
)

Form = Callable[[], nn.Module]
KEEPING: dict[str, Form] = {
    "pilot": lambda: Product("pilot"),
    "balanced": lambda: Product("balanced"),
    "squared": lambda: SignedPower(2.0),
    "cubed": lambda: SignedPower(3.0),
    "power 2.5": lambda: SignedPower(2.5),
    "soft": lambda: SoftThreshold(-2.0),
    "sigmoid": lambda: SigmoidMask(0.5),
}
ALL = KEEPING | {"independent": lambda: Product("independent", generator=torch.Generator().manual_seed(1))}


def mlp(seed: int = 0) -> nn.Module:
    with initialization(seed):
        return perceptron((6, 5, 3))


def convolutional(seed: int = 0) -> nn.Module:
    with initialization(seed):
        return small_cnn(width=2)


def inputs(network: nn.Module) -> Tensor:
    shape = (4, 6) if isinstance(network[0], nn.Flatten) else (4, 1, 8, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


# ---- the starts


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=8), st.floats(1e-3, 5))
def test_pilot_start_solves_its_two_equations(values: list[float], beta: float) -> None:
    x = torch.tensor(values)
    m, w = pilot_factors(x, beta)
    assert m.dtype == w.dtype == torch.float32
    assert (m > 0).all()
    torch.testing.assert_close(m * w, x, rtol=1e-6, atol=1e-6)
    scale = float((m**2).max())
    torch.testing.assert_close(m**2 - w**2, torch.full_like(x, beta), rtol=0, atol=1e-6 * max(1, scale))


def test_pilot_start_of_a_known_weight() -> None:
    m, w = pilot_factors(torch.tensor([0.3, 0.0], dtype=torch.float64))
    assert m.tolist() == pytest.approx([1.0407185928, 1.0], abs=1e-10)
    assert w.tolist() == pytest.approx([0.2882623622, 0.0], abs=1e-10)


@given(st.lists(st.floats(-3, 3, width=32, allow_subnormal=False), min_size=1, max_size=8))
def test_balanced_start_has_equal_sizes(values: list[float]) -> None:
    x = torch.tensor(values)
    m, w = balanced_factors(x)
    assert torch.equal(m, w.abs())
    torch.testing.assert_close(m * w, x, rtol=1e-6, atol=0)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf"), 0])
def test_a_beta_that_leaves_no_room_for_flips_is_refused_with_a_hint(beta: float) -> None:
    for refuse in (lambda: pilot_factors(torch.zeros(2), beta), lambda: Product("pilot", beta)):
        with pytest.raises(ValueError, match=f"beta must be a number above 0, got {beta!r}.*'balanced'"):
            refuse()


def test_independent_start_is_he_normal_seeded_and_another_function() -> None:
    layer = nn.Linear(200, 150)
    x = layer.weight.detach()
    drawn = [
        Product("independent", generator=torch.Generator().manual_seed(seed)).right_inverse(x)
        for seed in (0, 0, 1)
    ]
    m, w = drawn[0]
    assert torch.equal(m, drawn[1][0])
    assert not torch.equal(m, drawn[2][0])
    for factor in (m, w):
        assert factor.std().item() == pytest.approx((2 / 200) ** 0.5, rel=0.03)
    assert abs(np.corrcoef(m.flatten(), w.flatten())[0, 1]) < 0.03
    assert not torch.allclose(m * w, x, atol=1e-3)
    kernel = Product("independent").right_inverse(torch.zeros(64, 8, 5, 5))[0]
    assert kernel.std().item() == pytest.approx((2 / 200) ** 0.5, rel=0.03)


@pytest.mark.parametrize("build", [mlp, convolutional])
@pytest.mark.parametrize("name", KEEPING)
def test_forms_keep_the_function_at_the_start(build: Callable[[], nn.Module], name: str) -> None:
    plain = build()
    network = parametrize_weights(copy.deepcopy(plain), KEEPING[name])
    x = inputs(plain)
    torch.testing.assert_close(network(x), plain(x), rtol=1e-5, atol=1e-5)
    biases = {k: v for k, v in network.named_parameters() if k.endswith("bias")}
    assert all(torch.equal(v, dict(plain.named_parameters())[k]) for k, v in biases.items())


def test_every_weight_is_written_in_the_form_first_and_last_included() -> None:
    network = parametrize_weights(convolutional(), Product)
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) > 2
    assert all(parametrize.is_parametrized(layer, "weight") for layer in layers)
    assert not any(parametrize.is_parametrized(layer, "bias") for layer in layers)


# ---- formulas and gradients


@pytest.mark.parametrize(
    ("form", "formula"),
    [
        (Product(), lambda t: t[0] * t[1]),
        (SignedPower(3.0), lambda t: t[0].sign() * t[0].abs() ** t[1]),
        (SoftThreshold(), lambda t: t[0].sign() * (t[0].abs() - torch.sigmoid(t[1])).clamp(min=0)),
        (SigmoidMask(), lambda t: t[0] / (1 + torch.exp(-t[1] * t[2]))),
    ],
    ids=["product", "power", "soft", "sigmoid"],
)
def test_forms_are_their_formulas(form: nn.Module, formula: Callable[[list[Tensor]], Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    tensors = [t.clone().requires_grad_() for t in form.right_inverse(x)]
    torch.testing.assert_close(form(*tensors), x)
    with torch.no_grad():
        tensors[0].add_(torch.randn(4, 3, dtype=torch.float64, generator=generator))
    weights = form(*tensors)
    torch.testing.assert_close(weights, formula(tensors))
    found = torch.autograd.grad(weights.square().sum(), tensors)
    expected = torch.autograd.grad(formula(tensors).square().sum(), tensors)
    frozen = [int(name.removeprefix("original")) for name in getattr(form, "frozen", ())]
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        if i not in frozen:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["squared", "cubed", "power 2.5"])
def test_powers_have_a_finite_gradient_at_zero(name: str) -> None:
    form = KEEPING[name]()
    phi, exponent = form.right_inverse(torch.zeros(2, 2))
    phi.requires_grad_()
    form(phi, exponent).sum().backward()
    assert torch.equal(phi.grad, torch.zeros(2, 2))


@pytest.mark.parametrize(("name", "original"), [("squared", "original1"), ("sigmoid", "original2")])
def test_frozen_originals_are_not_trained(name: str, original: str) -> None:
    digits = load("digits", train=60, validation=0, test=10)
    with initialization(0):
        network = parametrize_weights(perceptron((64, 4, 10)), KEEPING[name])
    chain = network[1].parametrizations.weight
    before = {key: tensor.detach().clone() for key, tensor in chain.named_parameters()}
    train(
        network,
        digits,
        optimizer=partial(torch.optim.SGD, lr=0.1, weight_decay=0.1),
        n_steps=2,
        progress=False,
    )
    changed = {key for key, tensor in chain.named_parameters() if not torch.equal(tensor, before[key])}
    assert changed == set(before) - {original}


def test_small_steps_keep_the_signs_of_balanced_factors_and_flip_those_of_pilots() -> None:
    rng = torch.Generator().manual_seed(0)
    x0 = 0.1 * torch.randn(20, generator=rng, dtype=torch.float64)
    target = torch.randn(20, generator=rng, dtype=torch.float64)
    ends = {}
    for name, start in (("balanced", balanced_factors), ("pilot", pilot_factors)):
        m, w = (t.clone() for t in start(x0))
        for _ in range(2000):
            gradient = m * w - target
            m, w = m - 0.01 * gradient * w, w - 0.01 * gradient * m
        ends[name] = m * w
    assert torch.equal(ends["balanced"].sign(), x0.sign())
    same = x0.sign() == target.sign()
    assert 3 < same.sum() < 17
    torch.testing.assert_close(ends["balanced"][same], target[same], atol=1e-2, rtol=0)
    assert ends["balanced"][~same].abs().max() < 1e-2
    torch.testing.assert_close(ends["pilot"], target, atol=1e-3, rtol=0)


@given(
    st.floats(-2, 2),
    st.floats(0.05, 3),
    st.lists(st.tuples(st.floats(-2, 2), st.floats(0, 0.5)), min_size=1, max_size=5),
)
def test_the_difference_of_squares_shrinks_by_the_dose_alone(
    x0: float, beta: float, course: list[tuple[float, float]]
) -> None:
    """A step with gradient g and strength a multiplies m^2 - w^2 by (1 - 2 a h)^2 - (g h)^2: exp(-4A) as h -> 0."""
    m, w = (t.double() for t in pilot_factors(torch.tensor([x0], dtype=torch.float64), beta))
    h, expected = 0.01, beta
    for gradient, strength in course:
        m, w = (
            m - h * (gradient * w + 2 * strength * m),
            w - h * (gradient * m + 2 * strength * w),
        )
        expected *= (1 - 2 * strength * h) ** 2 - (gradient * h) ** 2
    assert (m**2 - w**2).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


# ---- stacks


@pytest.mark.parametrize("name", ALL)
def test_ensembles_of_perceptrons_run_as_products_and_equal_their_members(name: str) -> None:
    members = [parametrize_weights(mlp(seed), ALL[name]) for seed in range(3)]
    ensemble = Ensemble(members)
    x = inputs(members[0])
    assert "batched matrix products" in repr(ensemble)
    outputs = ensemble(x)
    for i, member in enumerate(members):
        torch.testing.assert_close(outputs[i], member(x))
        torch.testing.assert_close(ensemble.member(i)(x), member(x))
    weights = effective_weights(ensemble.parameters, ensemble.member(0))
    for i, member in enumerate(members):
        torch.testing.assert_close(weights["1.weight"][i], member[1].weight)


def test_members_of_different_exponents_are_one_stack() -> None:
    members = [parametrize_weights(mlp(), partial(SignedPower, p)) for p in (2.0, 3.0, 4.0)]
    ensemble = Ensemble(members)
    x = inputs(members[0])
    with torch.no_grad():
        for tensor in ensemble.parameters.values():
            if tensor.requires_grad:
                tensor.mul_(1.5)
        for member in members:
            for parameter in member.parameters():
                if parameter.requires_grad:
                    parameter.mul_(1.5)
    for outputs, member in zip(ensemble(x), members, strict=True):
        torch.testing.assert_close(outputs, member(x))


def test_convolutional_ensembles_equal_their_members() -> None:
    members = [parametrize_weights(convolutional(seed), Product) for seed in range(2)]
    ensemble = Ensemble(members)
    x = inputs(members[0])
    for i, member in enumerate(members):
        torch.testing.assert_close(ensemble(x)[i], member(x), atol=1e-5, rtol=1e-5)
    weights = effective_weights(ensemble.parameters, ensemble.member(0))
    for name, weight in effective_weights(dict(members[1].named_parameters()), members[1]).items():
        torch.testing.assert_close(weights[name][1], weight)


# ---- effective weights and folding


@pytest.mark.parametrize("name", [*ALL, None])
@pytest.mark.parametrize("build", [mlp, convolutional])
def test_effective_weights_are_those_of_the_layers(build: Callable[[], nn.Module], name: str | None) -> None:
    network = parametrize_weights(build(), None if name is None else ALL[name])
    weights = effective_weights(dict(network.named_parameters()), network)
    assert list(weights) == [k for k in dict(build().named_parameters()) if weights.get(k) is not None]
    for key, weight in weights.items():
        assert torch.equal(weight, network.get_submodule(key.removesuffix(".weight")).weight)


def test_the_tensors_behind_a_weight_are_the_trained_ones_in_their_order() -> None:
    network = parametrize_weights(mlp(), SigmoidMask)
    parameters = dict(network.named_parameters())
    found = weight_tensors(parameters, network)["1.weight"]
    own = [f"1.parametrizations.weight.original{i}" for i in range(3)]
    assert all(one is parameters[name] for one, name in zip(found, own, strict=True))
    single = nn.Linear(3, 2)
    assert weight_tensors(dict(single.named_parameters()), single)["weight"][0] is single.weight


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("build", [mlp, convolutional])
def test_folding_gives_a_plain_network_of_the_same_bits(build: Callable[[], nn.Module], name: str) -> None:
    network = parametrize_weights(build(), ALL[name])
    other = copy.deepcopy(network)
    x = inputs(network)
    weights = {k: v.clone() for k, v in effective_weights(dict(network.named_parameters()), network).items()}
    expected = network(x)
    folded = fold(network)
    assert folded is network
    plain = build()
    assert {k: v.shape for k, v in folded.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    assert all(torch.equal(folded.state_dict()[k], weights[k]) for k in weights)
    assert all(p.requires_grad for p in folded.parameters())
    assert torch.equal(folded(x), expected)
    assert torch.equal(other(x), expected)  # a copy that lives on
    assert torch.equal(fold(other)(x), expected)


# ---- what is refused


@pytest.mark.parametrize("form", [Product, None])
def test_networks_without_weights_to_write_are_refused(form: Form | None) -> None:
    with pytest.raises(ValueError, match=r"Linear|Conv2d"):
        parametrize_weights(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)), form)


def test_a_network_is_written_once_and_left_as_it_was_if_not_at_all() -> None:
    network = mlp()
    parametrize.register_parametrization(network[3], "weight", Product())
    with pytest.raises(ValueError, match=r"'3.weight' is already parametrised; call fold\(network\) first"):
        parametrize_weights(network, Product)
    assert not parametrize.is_parametrized(network[1])
    again = parametrize_weights(fold(network), SignedPower)
    assert isinstance(again[3].parametrizations.weight[0], SignedPower)


def test_weights_shared_by_two_layers_are_refused() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    network[2].weight = network[0].weight
    with pytest.raises(ValueError, match=r"'0.weight' and '2.weight' are one tensor"):
        parametrize_weights(network, Product)
    assert network[2].weight is network[0].weight
    assert parametrize_weights(network, None) is network


@pytest.mark.parametrize("exponent", [1.0, 1.99, float("nan"), float("inf"), -2.0])
def test_exponents_below_two_are_refused(exponent: float) -> None:
    with pytest.raises(ValueError, match="exponent must be a number, 2 or above; got"):
        SignedPower(exponent)


def test_an_unknown_start_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"unknown start 'balancd'.*did you mean 'balanced'\?"):
        Product("balancd")
