"""Starting points: reproducible from their seeds, apart from each other, cut without change."""

from dataclasses import replace

import pytest
import torch

from repro.papers.granger_causal_sgd.settings import SETTINGS, kaiming_fan_out_, setting, start


@pytest.fixture(scope="module")
def three():
    return start(replace(setting("digits"), pretrain_epochs=1), [3, 4, 5])


def test_the_same_seed_gives_the_same_network_in_any_company(three):
    alone = start(three.setting, [4])
    for name, tensor in alone.ensemble.state_dict().items():
        torch.testing.assert_close(tensor[0], three.ensemble.state_dict()[name][1], rtol=1e-5, atol=1e-6)
    assert torch.equal(alone.datasets[0].x_test, three.datasets[1].x_test)


def test_the_first_networks_are_what_they_were(three):
    some = three.first(2)
    assert some.seeds == (3, 4)
    for name, tensor in some.ensemble.state_dict().items():
        assert torch.equal(tensor, three.ensemble.state_dict()[name][:2])
    with pytest.raises(ValueError, match=r"3 networks to choose from; got n=4"):
        three.first(4)


def test_copies_repeat_all_networks_in_order(three):
    state, copies = three.ensemble.state_dict(), three.copy(2).state_dict()
    assert all(torch.equal(torch.cat([tensor] * 2), copies[name]) for name, tensor in state.items())


def test_dense_masks_keep_all_prunable_weights(three):
    mask = three.dense()
    assert mask.sparsity == 0
    assert mask.n_weights == 3 * 17_024


def test_weights_have_the_variance_of_fan_out():
    torch.manual_seed(0)
    layer = kaiming_fan_out_(torch.nn.Linear(400, 200))
    assert float(layer.weight.std()) == pytest.approx((2 / 200) ** 0.5, rel=0.02)
    assert not layer.bias.any()


@pytest.mark.parametrize(
    ("name", "n_weights"),
    [("lenet-fashion", 430_500), ("lenet-cifar10", 656_500), ("resnet18-cifar10", 11_164_352)],
)
def test_the_authors_networks_have_as_many_weights_as_theirs(name, n_weights):
    layers = [m for m in SETTINGS[name].build().modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    assert sum(layer.weight.numel() for layer in layers) == n_weights


def test_bad_names_and_empty_seeds_are_refused():
    with pytest.raises(ValueError, match=r"unknown setting 'digit'; did you mean 'digits'\?"):
        setting("digit")
    with pytest.raises(ValueError, match="at least one seed"):
        start(setting("digits"), [])
