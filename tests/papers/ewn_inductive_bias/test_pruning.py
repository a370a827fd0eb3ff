"""Pruning: exact counts, order by number, nothing changes where nothing should, against a slow loop."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from repro.learn.ensembles import Ensemble
from repro.learn.networks import perceptron
from repro.papers.ewn_inductive_bias.descent import Descent, descend
from repro.papers.ewn_inductive_bias.log_losses import LogLoss
from repro.papers.ewn_inductive_bias.parametrizations import fold, lengths, normalize_weights
from repro.papers.ewn_inductive_bias.pruning import best_of_scores, n_removed, pruned_accuracy, unit_scores

LOSS = LogLoss("cross-entropy", "mean")
SEEDS = [0, 1, 2]


def clouds(n: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(n) % 3
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    return centres[y] + 0.7 * torch.randn(n, 2, generator=generator), y


def network(method: str) -> nn.Sequential:
    return normalize_weights(perceptron((2, 10, 3), bias=(True, False)), method, ["1"])


@pytest.fixture(scope="module", params=["plain", "ewn"])
def trained(request) -> tuple[Ensemble, Descent]:
    networks = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        networks.append(network(request.param))
    ensemble = Ensemble(networks)
    return ensemble, descend(ensemble, *clouds(), log_loss=LOSS, targets=(1.0, 2.0), max_steps=3000)


def table(trained, x, y, **settings) -> pd.DataFrame:
    ensemble, descent = trained
    defaults = {"layers": ["1"], "levels": (0, 35, 90), "seeds": SEEDS}
    return pruned_accuracy(ensemble, descent, x, y, **(defaults | settings))


def test_accuracies_equal_a_slow_loop_over_networks_and_units(trained):
    ensemble, descent = trained
    assert descent.reached(2.0).all(), "the test needs trained networks"
    x, y = clouds(90)
    found = table(trained, x, y, scores=("length",)).set_index(["seed", "z", "pruned_percent"])
    for i, seed in enumerate(SEEDS):
        for z in (1.0, 2.0):
            member = ensemble.member(i)
            with torch.no_grad():
                for name, parameter in member.named_parameters():
                    parameter.copy_(descent.checkpoints[z][name][i])
            fold(member)
            order = sorted(range(10), key=lambda u, w=member[1].weight: (float(w[u].detach().norm()), u))
            for level, gone in ((0, 0), (35, 3), (90, 9)):
                w, b, out = member[1].weight.clone(), member[1].bias.clone(), member[3].weight
                w[order[:gone]], b[order[:gone]] = 0, 0
                right = ((x @ w.T + b).relu() @ out.T).argmax(1) == y
                assert found.loc[(seed, z, level), "accuracy"] == pytest.approx(
                    100 * float(right.double().mean())
                )
                assert found.loc[(seed, z, level), "n_removed"] == gone


def test_all_scores_agree_where_nothing_is_removed(trained):
    ensemble, descent = trained
    x, y = clouds(90)
    whole = table(trained, x, y, levels=(0, 5))
    assert set(whole["n_removed"]) == {0}
    assert (whole.groupby(["seed", "z"])["accuracy"].nunique() == 1).all()
    outputs = ensemble(x, parameters=descent.checkpoints[2.0])
    expected = 100 * (outputs.argmax(-1) == y).double().mean(1)
    np.testing.assert_allclose(
        whole[(whole["z"] == 2.0) & (whole["score"] == "length") & (whole["pruned_percent"] == 0)][
            "accuracy"
        ],
        expected,
    )


def test_chunks_and_data_of_their_own_change_nothing(trained):
    x, y = clouds(90)
    expected = table(trained, x, y)
    pd.testing.assert_frame_equal(table(trained, x, y, chunk=7), expected)
    own_x, own_y = x.expand(3, -1, -1), y.expand(3, -1)
    pd.testing.assert_frame_equal(table(trained, own_x, own_y, per_member=True), expected)


def test_a_neuron_without_outgoing_weight_can_go_first(trained):
    """`with outgoing` removes it first, and its removal changes no output."""
    ensemble, descent = trained
    descent = copy.deepcopy(descent)
    descent.checkpoints[2.0]["3.weight"][:, :, 4] = 0
    scores = unit_scores(descent, 2.0, "1", ("with outgoing",))["with outgoing"]
    assert (scores.argmin(dim=1) == 4).all()
    x, y = clouds(90)
    found = table((ensemble, descent), x, y, levels=(0, 10), scores=("with outgoing",), targets=(2.0,))
    by_level = found.pivot(index="seed", columns="pruned_percent", values="accuracy")
    assert (by_level[0] == by_level[10]).all()


def test_scores_are_what_their_names_say(trained):
    _, descent = trained
    found = unit_scores(descent, 2.0, "1", seeds=SEEDS)
    assert list(found) == ["length", "since start", "since z = 1", "with outgoing", "random"]
    now, start, before = (lengths(descent.weights(z)["1"], batched=True) for z in (2.0, None, 1.0))
    torch.testing.assert_close(found["length"], now)
    torch.testing.assert_close(found["since start"], now - start)
    torch.testing.assert_close(found["since z = 1"], now - before)
    torch.testing.assert_close(found["with outgoing"], now * descent.weights(2.0)["3"].norm(dim=1))
    assert len(set(found["random"].flatten().tolist())) == 30
    assert torch.equal(found["random"], unit_scores(descent, 1.0, "1", ("random",), SEEDS)["random"])


def test_filters_of_every_convolution_go_and_are_compared_as_numbers():
    """Lengths whose order as text is another: 9.9e-05 goes before 0.5, and 10 after 9."""
    torch.manual_seed(0)
    member = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * 16, 2),
    )  # fmt: skip
    sizes = torch.tensor([9.0, 9.9e-05, 10.0, 0.5])
    with torch.no_grad():
        for layer in (member[0], member[2]):
            layer.weight.mul_((sizes / layer.weight.flatten(1).norm(dim=1)).reshape(4, 1, 1, 1))
            layer.bias.fill_(0.3)
    x, y = torch.randn(40, 1, 4, 4), torch.randint(0, 2, (40,))
    ensemble = Ensemble([normalize_weights(member, "swn", ["0", "2"])])
    descent = descend(ensemble, x, y, log_loss=LOSS, targets=(-50.0,))
    assert descent.n_attempts[0] == 0, "the checkpoint is the start"
    outgoing = unit_scores(descent, -50.0, "2", ("with outgoing",))["with outgoing"][0]
    per_filter = member[5].weight.detach().reshape(2, 4, 16).pow(2).sum(dim=(0, 2)).sqrt()
    torch.testing.assert_close(outgoing, sizes * per_filter)
    plain = fold(member)
    for level, kept in ((25, [0, 2, 3]), (50, [0, 2]), (75, [2])):
        found = pruned_accuracy(
            ensemble, descent, x, y, layers=["0", "2"], levels=(level,), scores=("length",), seeds=[0]
        )
        with torch.no_grad():
            h = plain[0](x).relu() * torch.isin(torch.arange(4), torch.tensor(kept)).reshape(1, 4, 1, 1)
            h = plain[2](h).relu() * torch.isin(torch.arange(4), torch.tensor(kept)).reshape(1, 4, 1, 1)
            right = (plain[5](h.flatten(1)).argmax(1) == y).double().mean()
        assert found["accuracy"].item() == pytest.approx(100 * float(right))
        assert found["n_removed"].item() == 2 * (4 - len(kept))


@given(st.integers(0, 100), st.integers(1, 2000))
def test_counts_are_exact_for_whole_percentages(percent, n):
    assert n_removed(percent, n) == percent * n // 100


def test_networks_that_never_reached_the_target_have_no_rows():
    x, y = clouds()
    torch.manual_seed(0)
    good = network("plain")
    torch.manual_seed(0)
    dead = network("plain")
    with torch.no_grad():
        dead[3].weight.zero_()
        dead[1].weight.zero_()
        dead[1].bias.fill_(-1.0)
    ensemble = Ensemble([good, dead])
    descent = descend(ensemble, x, y, log_loss=LOSS, targets=(1.0,), max_steps=3000)
    found = pruned_accuracy(ensemble, descent, x, y, layers=["1"], levels=(0, 50), seeds=[7, 8])
    assert set(found["seed"]) == {7}


def test_the_authors_rule_takes_the_best_of_their_scores_only():
    rows = [
        ("length", 80.0),
        ("since start", 85.0),
        ("since z = 10", 83.0),
        ("with outgoing", 99.0),
        ("random", 98.0),
    ]
    given_table = pd.DataFrame(
        [
            {
                "method": "ewn",
                "seed": 0,
                "z": 100.0,
                "score": s,
                "pruned_percent": 90,
                "n_removed": 9,
                "accuracy": a,
            }
            for s, a in rows
        ]
    )
    best = best_of_scores(given_table)
    assert list(best.columns) == list(given_table.columns)
    assert best["accuracy"].tolist() == [85.0]
    assert "test set" in best["score"].item()


def test_bad_input(trained):
    _, descent = trained
    with pytest.raises(ValueError, match="unknown score 'norm'"):
        unit_scores(descent, 2.0, "1", ("norm",))
    with pytest.raises(ValueError, match="unknown layer '2'"):
        unit_scores(descent, 2.0, "2")
    with pytest.raises(ValueError, match="one seed a member: 3 members, 0 seeds"):
        unit_scores(descent, 2.0, "1")
    with pytest.raises(ValueError, match="no checkpoint at z = 9"):
        unit_scores(descent, 9.0, "1")
    with pytest.raises(ValueError, match="between 0 and 100, got 101"):
        n_removed(101, 10)
