"""The table of methods: names, grids, the currency of strengths, and that each of them trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from repro.learn import perceptron
from repro.papers.implicit_sparsification.fitting import fit, written
from repro.papers.implicit_sparsification.methods import GRID, METHODS, Method, method
from repro.papers.implicit_sparsification.penalties import PENALTIES
from repro.papers.implicit_sparsification.settings import SETTINGS

TINY = replace(
    SETTINGS["digits"],
    n_epochs=2,
    build=partial(perceptron, (64, 16, 10)),
    parts=(150, 50, 50),
    batch_size=50,
)
TUNED = [name for name, each in METHODS.items() if each.penalty != "none" or each.grid is not None]


def layers(network: nn.Module) -> Iterator[nn.Module]:
    return (layer for layer in network.modules() if isinstance(layer, nn.Linear))


def test_a_method_is_found_by_its_name() -> None:
    for name, each in METHODS.items():
        assert each.name == name
        assert method(name) is each
        assert each.penalty in PENALTIES
    labels = [each.label for each in METHODS.values()]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("typo", "meant"), [("pilott", "pilot"), ("spread", "spred"), ("L1_x", "l1_x"), ("mv", "mw")]
)
def test_a_typo_gets_a_suggestion(typo: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"unknown method '{typo}'; did you mean '{meant}'.*Known: x, "):
        method(typo)


def test_nothing_near_gets_the_list_alone() -> None:
    with pytest.raises(ValueError, match=r"unknown method 'zzzz'; known: x, .*pilot"):
        method("zzzz")


def test_grids_are_equal_in_number_and_a_factor_apart() -> None:
    assert len(TUNED) == len(METHODS) - 5  # x, mw, each at the other's rate, and mw under weight decay
    for name in TUNED:
        strengths = METHODS[name].strengths
        assert len(strengths) == len(GRID) == 3
        assert list(strengths) == sorted(strengths)
        if name != "powerprop":
            assert strengths[1] / strengths[0] == pytest.approx(2)
            assert strengths[2] / strengths[1] == pytest.approx(2)
    for name in set(METHODS) - set(TUNED):
        assert METHODS[name].strengths == (0.0,)


def test_an_l1_strength_is_twice_that_on_the_factors() -> None:
    for each in METHODS.values():
        assert each.scale == (2.0 if each.penalty.startswith("l1") else 1.0)


def test_factors_train_at_their_own_rate_and_do_not_decay_unless_they_are_meant_to() -> None:
    x = perceptron((4, 3))
    for name, each in METHODS.items():
        network = written(x, each, each.strengths[0], 0)
        chain = getattr(next(layers(network)), "parametrizations", None)
        product = chain is not None and type(chain.weight[0]).__name__ == "Product"
        assert each.fast == ((product and name != "mw_slow") or name == "x_fast")
        if product:
            assert each.decayed == ((0, 1) if name == "mw_decay" else ())


def test_starts_are_those_that_the_names_say() -> None:
    x = perceptron((4, 3))
    for name, beta in {
        "pilot": 1.0,
        "mw": 1.0,
        "beta_0.1": 0.1,
        "beta_0.01": 0.01,
        "balanced": 0,
        "spred": 0,
    }.items():
        chain = next(layers(written(x, METHODS[name], 1e-3, 0))).parametrizations.weight
        difference = (chain.original0**2 - chain.original1**2).detach()
        torch.testing.assert_close(difference, torch.full_like(difference, beta), atol=1e-6, rtol=0)


def test_independent_factors_depend_on_the_seed_and_not_on_the_strength() -> None:
    x = perceptron((4, 3))

    def drawn(strength: float, seed: int) -> torch.Tensor:
        return next(layers(written(x, METHODS["spred_independent"], strength, seed))).weight.detach()

    assert torch.equal(drawn(1e-3, 0), drawn(2e-3, 0))
    assert not torch.equal(drawn(1e-3, 0), drawn(1e-3, 1))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains(name: str) -> None:
    found = fit(TINY, name, seeds=[0, 1], progress=False)
    assert not found.diverged
    assert len(found.networks) == 2 * len(METHODS[name].strengths)
    for key, weight in found.networks.parameters.items():
        assert weight.isfinite().all()
        if key in found.start:
            assert not torch.allclose(weight, found.start[key], atol=1e-4)
    if name not in ("spred_independent", "continuous", "continuous_original"):  # slow at the start
        assert (found.course[found.course["epoch"] == 2]["batch_accuracy"] > 0.2).all()
    assert np.isfinite(found.course[["alpha", "dose", "l1"]]).all(axis=None)


def test_unknown_penalties_and_schedules_of_own_methods_are_named() -> None:
    with pytest.raises(ValueError, match="unknown penalty 'cubes'"):
        fit(TINY, Method("mine", "mine", penalty="cubes"), [0.1], seeds=[0])
    with pytest.raises(
        ValueError, match=r"unknown schedule 'hlaf'; did you mean 'half'.* Known: half, rising, "
    ):
        fit(TINY, Method("mine", "mine", penalty="squares", schedule="hlaf"), [0.1], seeds=[0])
