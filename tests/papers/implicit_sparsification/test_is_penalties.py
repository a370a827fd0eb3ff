"""Gradients of penalties against autograd of their formulas, strengths by network, the Lasso as a fixed point."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import Tensor, nn

from repro.learn import Ensemble, initialization, perceptron
from repro.papers.implicit_sparsification.factors import (
    Product,
    SigmoidMask,
    SoftThreshold,
    parametrize_weights,
)
from repro.papers.implicit_sparsification.penalties import PENALTIES, Penalty

STRENGTHS = torch.tensor([0.3, 0.0, 1.7], dtype=torch.float64)


def ensemble(form: Callable[[], nn.Module] | None, size: int = 3) -> Ensemble:
    members = []
    for seed in range(size):
        with initialization(seed):
            members.append(parametrize_weights(perceptron((3, 4, 2)).double(), form))
    stacked = Ensemble(members)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in stacked.parameters.values():
            if tensor.requires_grad:
                tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
            tensor.grad = torch.zeros_like(tensor)
    return stacked


def added(model: Ensemble, kind: str, strengths: Tensor = STRENGTHS, **options: object) -> dict[str, Tensor]:
    with torch.no_grad():
        Penalty(model, kind, strengths, **({"weight_decay": 0.0} | options))(model, 1)
    return {name: tensor.grad for name, tensor in model.parameters.items()}


def behind(model: Ensemble, name: str) -> list[list[Tensor]]:
    """The tensors that stand behind each layer's weight, by their names."""
    if name == "plain":
        return [[model.parameters[f"{i}.weight"]] for i in (1, 3)]
    return [
        [t for key, t in model.parameters.items() if key.startswith(f"{i}.parametrizations")] for i in (1, 3)
    ]


FORMULAS: list[tuple[str, str, Callable[[], nn.Module] | None, Callable[[list[Tensor]], Tensor]]] = [
    ("none", "product", Product, lambda t: 0 * t[0]),
    ("squares", "product", Product, lambda t: t[0] ** 2 + t[1] ** 2),
    ("squares", "plain", None, lambda t: t[0] ** 2),
    ("l1 on the first", "plain", None, lambda t: t[0].abs()),
    ("l1 on the first", "product", Product, lambda t: t[0].abs()),
    ("l1 on the second", "sigmoid", SigmoidMask, lambda t: t[1].abs()),
    ("gates", "sigmoid", SigmoidMask, lambda t: torch.sigmoid(t[2] * t[1]).abs()),
]


@pytest.mark.parametrize(
    ("kind", "name", "form", "formula"), FORMULAS, ids=[f"{each[0]}, {each[1]}" for each in FORMULAS]
)
def test_gradients_are_those_of_the_formula(
    kind: str,
    name: str,
    form: Callable[[], nn.Module] | None,
    formula: Callable[[list[Tensor]], Tensor],
) -> None:
    model = ensemble(form)
    if name == "sigmoid":
        with torch.no_grad():
            for tensors in behind(model, name):
                tensors[2].fill_(3.0)  # a temperature that shows
    found = added(model, kind)
    total = sum((STRENGTHS * formula(tensors).flatten(1).sum(dim=1)).sum() for tensors in behind(model, name))
    expected = torch.autograd.grad(
        total, [t for t in model.parameters.values() if t.requires_grad], allow_unused=True
    )
    trained = [key for key, t in model.parameters.items() if t.requires_grad]
    for key, gradient in zip(trained, expected, strict=True):
        torch.testing.assert_close(found[key], torch.zeros_like(found[key]) if gradient is None else gradient)


def test_every_penalty_is_checked() -> None:
    assert {kind for kind, *_ in FORMULAS} == set(PENALTIES)


def test_squares_reach_the_thresholds_of_str_too() -> None:
    model = ensemble(SoftThreshold)
    found = added(model, "squares")
    s = model.parameters["1.parametrizations.weight.original1"]
    torch.testing.assert_close(found["1.parametrizations.weight.original1"], 2 * STRENGTHS[:, None, None] * s)


def test_the_rest_decays_as_in_torch_and_the_factors_only_if_asked() -> None:
    model = ensemble(Product)
    found = added(model, "none", weight_decay=0.01, decayed=(1,))
    for key, tensor in model.parameters.items():
        expected = 0.0 * tensor if key.endswith("original0") else 0.01 * tensor
        torch.testing.assert_close(found[key], expected.detach())


def test_twice_the_strength_is_torchs_weight_decay() -> None:
    alpha = 0.05
    models = [ensemble(Product), ensemble(Product)]
    generator = torch.Generator().manual_seed(1)
    drawn = {
        key: torch.randn(t.shape, generator=generator, dtype=t.dtype)
        for key, t in models[0].parameters.items()
    }
    ends = []
    for model, decay in zip(models, (0.0, 2 * alpha), strict=True):
        factors = [t for key, t in model.parameters.items() if "original" in key]
        stepper = torch.optim.SGD(factors, lr=0.1, momentum=0.9, weight_decay=decay)
        penalty = Penalty(model, "squares", torch.full((3,), alpha), 0.0)
        for _ in range(4):
            with torch.no_grad():
                for key, tensor in model.parameters.items():
                    tensor.grad = drawn[key].clone()
                if not decay:
                    penalty(model, 1)
            stepper.step()
        ends.append(factors)
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


def test_strengths_may_change_between_steps() -> None:
    model = ensemble(None)
    penalty = Penalty(model, "l1 on the first", STRENGTHS, 0.0)
    penalty.strengths = 2 * STRENGTHS
    with torch.no_grad():
        penalty(model, 1)
    weight = model.parameters["1.weight"]
    torch.testing.assert_close(weight.grad, 2 * STRENGTHS[:, None, None] * weight.detach().sign())


def test_the_strengths_given_are_not_changed() -> None:
    given = STRENGTHS.clone()
    penalty = Penalty(ensemble(None), "squares", given, 0.0)
    penalty.strengths *= 2
    assert torch.equal(given, STRENGTHS)


def test_gradients_of_single_precision_stay_so() -> None:
    with initialization(0):
        model = Ensemble([parametrize_weights(perceptron((3, 2)), Product)])
    for tensor in model.parameters.values():
        tensor.grad = torch.zeros_like(tensor)
    found = added(model, "squares", STRENGTHS[:1])
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}


def test_squares_on_balanced_factors_end_where_l1_on_their_product_does() -> None:
    r"""At the end $|\nabla f| = 2\alpha$ where $x\ne0$ and at most $2\alpha$ elsewhere: the Lasso with 2 alpha."""
    rng = np.random.default_rng(0)
    n, d = 30, 6
    data, truth = rng.normal(size=(n, d)), np.array([2.0, -1.5, 0.0, 0.0, 1.0, 0.0])
    target = data @ truth + 0.1 * rng.normal(size=n)
    alphas = [0.05, 0.2]
    start = nn.Linear(d, 1, bias=False).double()
    with torch.no_grad():
        # signs of the truth, since balanced factors cannot change them
        start.weight.copy_(torch.as_tensor(np.where(truth == 0, 0.5, np.sign(truth)))[None])
    network = parametrize_weights(nn.Sequential(start), lambda: Product("balanced"))
    model = Ensemble([network, network])
    penalty = Penalty(model, "squares", torch.tensor(alphas), 0.0)
    stepper = torch.optim.SGD(model.parameters.values(), lr=0.05)
    x, y = torch.as_tensor(data), torch.as_tensor(target)
    for _ in range(2000):
        stepper.zero_grad()
        (0.5 * (model(x)[..., 0] - y).square().mean(dim=1)).sum().backward()
        with torch.no_grad():
            penalty(model, 1)
        stepper.step()
    m, w = (model.parameters[f"0.parametrizations.weight.original{i}"].detach() for i in range(2))
    for alpha, found in zip(alphas, (m * w)[:, 0].numpy(), strict=True):
        gradient = data.T @ (data @ found - target) / n
        alive = np.abs(found) > 1e-6
        assert 3 <= alive.sum() < d
        np.testing.assert_allclose(gradient[alive], -2 * alpha * np.sign(found[alive]), atol=1e-6)
        assert (np.abs(gradient[~alive]) < 2 * alpha).all()
        exact = Lasso(alpha=2 * alpha, fit_intercept=False, tol=1e-12).fit(data, target).coef_
        np.testing.assert_allclose(found, exact, atol=1e-5)


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ([0.1, -0.1, 0.0], r"0 or above; got \[0\.1, -0\.1, 0\.0\]"),
        ([0.1, float("nan"), 0.0], "0 or above; got .*nan"),
        ([0.1, float("inf"), 0.0], "0 or above; got .*inf"),
        ([0.1, 0.1], r"3 networks need as many strengths; got \(2,\)"),
        (0.1, r"3 networks need as many strengths; got \(\)"),
    ],
)
def test_bad_strengths_are_refused(strengths: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Penalty(ensemble(None), "squares", torch.tensor(strengths, dtype=torch.float64), 0.0)


def test_an_unknown_penalty_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"unknown penalty 'square'; did you mean 'squares'.* Known: none, squares,"
    ):
        Penalty(ensemble(None), "square", STRENGTHS, 0.0)
