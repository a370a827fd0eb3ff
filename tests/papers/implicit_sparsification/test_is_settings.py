"""Settings: names, splits and first weights by seed, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from repro.learn import initialization
from repro.papers.implicit_sparsification.settings import SETTINGS, data_sets, initial_networks, setting

EMBEDDED = ["digits", "mnist5k"]


def test_a_setting_is_found_by_its_name() -> None:
    for name, each in SETTINGS.items():
        assert each.name == name
        assert setting(name) is each


@pytest.mark.parametrize(("typo", "hint"), [("digit", "did you mean 'digits'"), ("qqq", "; known: digits")])
def test_unknown_settings_are_refused_with_what_there_is(typo: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"unknown setting '{typo}'.*{hint}"):
        setting(typo)


def test_the_papers_optimizer() -> None:
    """SGD at 0.1, factors at twice that, momentum 0.9, weight decay 1e-4; 150 epochs of batches of 256 for CIFAR."""
    for each in SETTINGS.values():
        assert (each.rate, each.factor_rate, each.momentum, each.weight_decay) == (0.1, 0.2, 0.9, 1e-4)
    for name in ("resnet20-cifar10", "resnet18-cifar10"):
        assert (SETTINGS[name].n_epochs, SETTINGS[name].batch_size) == (150, 256)
        assert SETTINGS[name].augmented


@pytest.mark.parametrize("name", EMBEDDED)
def test_networks_fit_their_data(name: str) -> None:
    (data,) = data_sets(SETTINGS[name], [3])
    (network,) = initial_networks(SETTINGS[name], [3])
    assert network(data.x_train[:4]).shape == (4, data.n_classes)
    n_train, n_validation, n_test = SETTINGS[name].parts
    assert n_train is None
    assert (len(data.y_validation), len(data.y_test)) == (n_validation, n_test)


def test_seeds_have_splits_of_their_own_and_the_same_seed_the_same() -> None:
    first, second = data_sets(SETTINGS["digits"], [0, 1])
    (again,) = data_sets(SETTINGS["digits"], [1])
    assert torch.equal(second.x_test, again.x_test)
    assert not torch.equal(first.x_test, second.x_test)


def test_seeds_have_weights_of_their_own_kaiming_normal_without_biases() -> None:
    networks = initial_networks(SETTINGS["mnist5k"], [0, 1])
    (again,) = initial_networks(SETTINGS["mnist5k"], [1])
    for one, other, same in zip(*(n.modules() for n in (*networks, again)), strict=True):
        if isinstance(one, nn.Linear):
            assert torch.equal(other.weight, same.weight)
            assert not torch.equal(one.weight, other.weight)
            assert one.weight.std().item() == pytest.approx((2 / one.in_features) ** 0.5, rel=0.1)
            assert torch.equal(one.bias, torch.zeros_like(one.bias))


def test_the_weights_do_not_depend_on_the_global_generator() -> None:
    torch.manual_seed(5)
    (one,) = initial_networks(SETTINGS["digits"], [0])
    with initialization(9):
        torch.randn(3)
        (other,) = initial_networks(SETTINGS["digits"], [0])
    assert torch.equal(one[1].weight, other[1].weight)


@pytest.mark.parametrize("seeds", [[], [1, 1], [0, 2, 0]])
def test_no_seeds_or_one_twice_are_refused(seeds: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one number and all different; got") as error:
        data_sets(SETTINGS["digits"], seeds)
    assert str(seeds) in str(error.value)


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_seeds_that_are_none_are_refused(seed: object) -> None:
    with pytest.raises(ValueError, match="a seed is a whole number, 0 or above"):
        data_sets(SETTINGS["digits"], [seed])
