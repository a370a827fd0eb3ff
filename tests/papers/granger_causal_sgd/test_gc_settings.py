"""Starting points: reproducible from their seeds, apart from each other, cut without change."""

from dataclasses import replace

import pytest
import torch
from gc_by_hand import IRIS, SEEDS, iris

from repro.learn import Dataset
from repro.papers.granger_causal_sgd import experiments, settings
from repro.papers.granger_causal_sgd.settings import Setting, Start


def test_the_same_seed_gives_the_same_network_in_any_company():
    alone = Start.draw(SEEDS[1:], IRIS)
    for name, tensor in alone.ensemble.state_dict().items():
        torch.testing.assert_close(tensor[0], iris().ensemble.state_dict()[name][1], rtol=1e-5, atol=1e-6)
    assert torch.equal(alone.datasets[0].x_test, iris().datasets[1].x_test)


def test_weights_have_the_variance_of_fan_out():
    chapter = Start.draw([0])
    still = Start.draw([0], replace(chapter.setting, rate=1e-12, pretrain_epochs=1)).ensemble.parameters
    assert float(still["1.weight"].detach().std()) == pytest.approx((2 / 128) ** 0.5, rel=0.03)
    assert float(still["3.weight"].detach().std()) == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    assert still["1.bias"].abs().max() < 1e-9


def test_lenet_takes_images_and_runs_in_every_experiment_that_the_chapter_gives_it(monkeypatch):
    def images(name, *, seed, images, train, validation, standardize):
        assert (name, images, validation, standardize) == ("fashion_mnist", True, 1000, (0.286, 0.353))
        x = torch.randn(train, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
        return Dataset(
            x, torch.arange(train) % 10, *(x[:20], torch.arange(20) % 10) * 2, n_classes=10, name=name
        )

    monkeypatch.setattr(settings, "load", images)
    begun = Start.draw([5], Setting.lenet(64, 9))
    assert (begun.setting.batch_size, begun.setting.logging_rate, begun.setting.rate) == (512, 1e-3, 5e-4)
    tests = experiments.granger_runs(begun, full_loss=False).set_index(["target", "condition"])
    assert tests.loc[("same-batch", "real run"), "slope"] == pytest.approx(1, abs=0.1)
    masks = experiments.mask_overlaps(begun, [0.5])
    assert masks["sparsity"].between(0.4, 0.6).all()
    pruned = experiments.accuracy_runs(begun, [0.651], ["causal", "random"])
    assert pruned["arm"].tolist() == ["dense", "causal", "random"]
    assert pruned["test_accuracy"].between(0, 1).all()
