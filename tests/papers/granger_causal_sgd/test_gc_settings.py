"""Starting points: reproducible from their seeds, apart from each other, cut without change."""

from dataclasses import replace

import pytest
import torch

from repro.papers.granger_causal_sgd.settings import DIGITS, start


@pytest.fixture(scope="module")
def three():
    return start(replace(DIGITS, pretrain_epochs=1), [3, 4, 5])


def test_the_same_seed_gives_the_same_network_in_any_company(three):
    alone = start(three.setting, [4])
    for name, tensor in alone.ensemble.state_dict().items():
        torch.testing.assert_close(tensor[0], three.ensemble.state_dict()[name][1], rtol=1e-5, atol=1e-6)
    assert torch.equal(alone.datasets[0].x_test, three.datasets[1].x_test)


def test_the_first_networks_are_what_they_were_and_copies_repeat_them_in_order(three):
    some, state = three.first(2), three.ensemble.state_dict()
    assert some.seeds == (3, 4)
    for name, tensor in state.items():
        assert torch.equal(some.ensemble.state_dict()[name], tensor[:2])
        assert torch.equal(three.copy(2).state_dict()[name], torch.cat([tensor] * 2))
    with pytest.raises(ValueError, match=r"3 networks to choose from; got n=4"):
        three.first(4)


def test_dense_masks_keep_all_prunable_weights(three):
    assert three.dense().sparsity == 0
    assert three.dense().n_weights == 3 * 17_024


def test_weights_have_the_variance_of_fan_out():
    still = start(replace(DIGITS, rate=1e-12, pretrain_epochs=1), [0]).ensemble.parameters
    assert float(still["1.weight"].detach().std()) == pytest.approx((2 / 128) ** 0.5, rel=0.03)
    assert float(still["3.weight"].detach().std()) == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    assert still["1.bias"].abs().max() < 1e-9


def test_no_seeds_are_refused():
    with pytest.raises(ValueError, match="at least one seed"):
        start(DIGITS, [])
