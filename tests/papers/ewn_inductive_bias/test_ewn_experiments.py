"""The experiments on few seeds, against the authors' logs and an independent implementation."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from repro.learn.ensembles import Ensemble
from repro.papers.ewn_inductive_bias import authors, experiments, measures
from repro.papers.ewn_inductive_bias.theory import _euler_steps

# --- data and initial weights of the authors' code and logs -----------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_every_depth_starts_as_the_authors_map(depth):
    problem, first_map = experiments._depth_problem("logistic")
    np.testing.assert_allclose(first_map, [-0.6750711479, -0.3185036485], atol=5e-11)
    assert problem.x.shape == (20, 2)
    weights = experiments._depth_weights(depth, 30, 4, first_map)
    assert len(weights) == depth
    # the loss at the start that the authors' logs print
    assert np.exp(problem.gradient(weights)[0]) == pytest.approx(3.7717, abs=5e-5)


# --- the equation itself ----------------------------------------------------------------------------------------


def test_flow_identity_and_its_controls():
    table = experiments.flow_identity([0])
    assert len(table) == 2 * 2
    assert table["deviation"].max() < 1e-6
    assert table["plain_distance"].min() > 0.05
    assert table[table.radius == 2]["short_form_deviation"].min() > 0.05
    assert table[table.radius == 1]["short_form_deviation"].max() < 1e-6


def test_euler_converges_with_order_one_and_directions_never_shrink():
    table = experiments.euler_convergence([0])
    ratios = table["ratio"].dropna()
    assert len(ratios) == 2 * 2
    assert ratios.between(1.9, 2.1).all()
    assert table["recursion_error"].max() < 1e-12


# --- Lin-Sep ----------------------------------------------------------------------------------------------------


def test_node_quantities_by_hand():
    weights = [np.array([[3.0, 4.0], [1.0, 0.0], [1e-3, 0.0]]), np.array([[0.0, 2.0]])]
    gradients = [np.array([[-6.0, -8.0], [0.0, 0.0], [-1e-200, 0.0]]), np.array([[1.0, 1.0]])]
    found = experiments._nodes([w[None] for w in weights], [g[None] for g in gradients], seed=3)
    np.testing.assert_allclose(found["length"], [5, 1, 1e-3, 2])
    np.testing.assert_allclose(found["gradient_norm"], [10, 0, 0, np.sqrt(2)])
    # neither a dead unit nor a gradient too small to square has a direction
    np.testing.assert_allclose(found["cosine"], [-1, np.nan, np.nan, 1 / np.sqrt(2)])
    assert found[["seed", "layer", "node"]].T.to_numpy().tolist() == [[3] * 4, [0, 0, 0, 1], [0, 1, 2, 3]]


@pytest.fixture(scope="module")
def nodes():
    # Seed 44 never fits under SWN: it tests that nobody is dropped.
    return experiments.lin_sep_flows([0, 2, 44])


def test_seeds_that_never_fit_keep_their_rows(nodes):
    runs = nodes.groupby(["seed", "method"]).agg({"fits": "first", "z": "max"})
    assert len(runs) == 3 * 3
    assert runs.index[~runs["fits"]].tolist() == [(44, "swn")]
    # One point stays at margin 0: the exponential loss cannot fall below 1.
    assert runs.loc[(44, "swn"), "z"] == pytest.approx(0.0, abs=1e-3)


def test_relations_hold_with_the_right_sign_only(nodes):
    active = measures.active_nodes(nodes[nodes["fits"]], 300.0)
    table = measures.relations(active)
    assert len(table) == 8
    assert (table["worst_cosine"] < -0.95).all()
    assert (table["across"] < table["across_wrong"])[table["method"] != "ewn"].all()
    two = table[(table["method"] == "ewn") & (table["n_active_hidden"] == 2)]
    assert (two["across"] < 0.15).all()
    assert (two["across_wrong"] > 0.3).all()
    # with three the law does not hold across layers, and the gap is the one that the derivation predicts
    three = table.set_index(["seed", "method"]).loc[(2, "ewn")]
    found = three[["n_active_hidden", "predicted_gap", "gap"]].tolist()
    assert found == pytest.approx([3, np.log(1.5), np.log(1.5)], abs=0.05)
    assert three["within"] < 0.15 < 0.4 < three["across"]


def test_pairs_move_as_predicted_and_the_bound_holds(nodes):
    sums = measures.pairs(nodes[nodes["fits"]]).groupby("method")[["n_correct", "n_pairs"]].sum()
    assert (sums["n_pairs"] >= 5).all()
    assert (sums["n_correct"] >= 0.95 * sums["n_pairs"]).all()
    smallest = measures.smallest_bound(nodes)
    assert smallest.index.tolist() == [0, 2, 44]
    assert (smallest > 1).all()
    # The ratio is n/L² R/z² with n = 9 = L²; products d_l z/n_l make it 3 for two active hidden nodes, 7/3 for three.
    late = nodes[(nodes["z"] == 1000.0) & (nodes["method"] == "ewn")].groupby("seed")["log_rate"].first()
    np.testing.assert_allclose(np.exp(late[[0, 2]] - 2 * np.log(1000)), [3, 7 / 3], atol=0.05)


@pytest.fixture(scope="module")
def descent():
    return experiments.lin_sep_descent()


def test_the_laws_in_the_authors_lin_sep_run(descent):
    """Spreads over the nodes that the rule chooses; the authors' three nodes, chosen by eye, are the same."""
    found = measures.relations(measures.active_nodes(descent, 200.0, 300.0)).set_index("method")
    assert (found["n_active_hidden"] == 2).all()
    spreads = found[["across", "across_wrong"]]
    np.testing.assert_allclose(spreads.loc["ewn"], [[0.093, 0.855], [0.074, 0.888]], atol=0.001)
    np.testing.assert_allclose(spreads.loc["swn"], [[0.047, 0.251], [0.037, 0.249]], atol=0.001)
    end = descent[descent["end"]].assign(squared=lambda table: table["length"] ** 2).groupby("method")
    margins = end["z"].first() / end["squared"].sum() ** 1.5
    np.testing.assert_allclose(margins[["ewn", "swn"]], [0.1876, 0.2133], rtol=0.005)


@pytest.fixture(scope="module")
def all_xor():
    return experiments.xor_sparsity([9, 16])  # 9 stops at a kink under SWN


def test_the_authors_runs_are_repeated(descent, all_xor):
    """Steps to one per cent (of XOR under SWN they are chaotic) and lengths to half a per cent."""
    race, xor = experiments.simple_trajectory_descent(), all_xor[all_xor["source"] == "paper"]
    found = authors.agreement(race, descent, xor).set_index(["run", "method"])
    assert len(found) == 15
    assert (found["difference"] < 0.005).all()
    steps = (found["steps"] / found["logged_steps"] - 1).abs().drop(("XOR", "swn"))
    assert (steps < 0.01).all()
    assert (race["relative_error"][race["method"] == "ewn"] < 0.04).all()
    assert (race["relative_error"][race["method"] == "plain"] < 2e-4).all()
    ends = measures.sparsity(xor).set_index("method")
    assert ends["count"].to_dict() == {"plain": 20, "swn": 16, "ewn": 4}
    np.testing.assert_allclose(ends["top_share"], [0.310, 0.397, 0.988], atol=0.001)
    np.testing.assert_allclose(ends["gini"], [0.111, 0.301, 0.737], atol=0.003)


def test_xor_keeps_those_that_get_stuck_and_shows_the_way(all_xor):
    assert (all_xor["seed"].eq(experiments._XOR_SEED) == all_xor["source"].eq("paper")).all()
    table = all_xor[all_xor["source"] == "random"]
    ends = measures.sparsity(table).set_index(["method", "seed"])
    assert len(ends) == 3 * 2
    assert ends.loc["swn", "status"].to_dict() == {9: "stalled", 16: "reached"}
    way = table[table["method"] == "ewn"].groupby(["seed", "node"])
    assert (way["steps"].apply(lambda steps: (np.diff(steps) >= 0).all())).all()
    assert (way["end"].sum() == 1).all()


# --- two weights, XOR, depth ------------------------------------------------------------------------------------


def test_flows_of_two_weights_follow_the_exact_solution():
    table = experiments.simple_trajectories(20, seed=1)
    assert len(table) == 20 * 2
    assert table["path_error"].max() < 1e-5
    ewn, plain = (table[table["method"] == method] for method in ("ewn", "plain"))
    assert ewn["drift"].max() < 1e-6
    assert (ewn["predicted"] == ewn["winner"]).all()
    assert set(ewn["winner"]) == {1, 2}
    assert plain["drift"].min() > 0.01, "plain flow keeps no K"


def test_rate_exponents():
    table = experiments.rate_exponents([0])
    assert len(table) == 4 * 4 * 2 + 3 * 2
    assert table["clock_error"].max() < 1e-3
    assert not table["exponent"].isna().any()
    late = table[table["high"] == table.groupby("method")["high"].transform("max")]
    assert (late["exponent"] - late["expected"]).abs().max() < 0.1
    # values of an independent implementation, z from 50 to 300
    found = table[table["low"] == 50.0].set_index(["method", "depth"])["exponent"]
    runs = [("ewn", 1), ("plain", 2), ("plain", 3), ("swn", 3)]
    np.testing.assert_allclose(found[runs], [1.988, 0.994, 1.319, 1.315], atol=0.01)


def test_curves_of_seeds_do_not_mix():
    curves, alone = experiments.depth_curves([0, 3], n_steps=99), experiments.depth_curves([3], n_steps=99)
    np.testing.assert_allclose(curves[curves["seed"] == 3]["log_loss"], alone["log_loss"], rtol=1e-10)
    end = curves[curves["step"] == 99].set_index(["seed", "method", "depth"]).sort_index()
    last = np.exp(end["log_loss"])
    assert ((last[0] - last[3]).abs().groupby("depth").min() > 1e-4).tolist() == [False, True, True, True]
    np.testing.assert_allclose(end["ratio"][0, "ewn"], last[0, "ewn"].max() / last[0, "ewn"].min())


@pytest.mark.parametrize(
    ("method", "logged"),
    [
        ("plain", (3.77168, 1.76371, 0.50459, 0.14633)),
        ("swn", (3.77168, 1.76463, 0.45944, 0.12467)),
        ("ewn", (3.77168, 1.85256, 0.12771, 0.00871)),
    ],
)
def test_depth_one_to_the_end_of_the_authors_logs(method, logged):
    # the n-th entry of the logs is the loss before the n-th step
    problem, first_map = experiments._depth_problem("logistic")
    steps = _euler_steps(problem.gradient, method, [first_map[None]], 1e-3, np.linalg.norm(first_map))
    found = [float(np.exp(log_loss)) for *_, log_loss in islice(steps, 5000)]
    found = [found[n] for n in (0, 99, 999, 4999)]
    np.testing.assert_allclose(found, logged, atol=6e-6)


# --- images -----------------------------------------------------------------------------------------------------


def test_images_have_every_method_seed_and_depth_and_the_control_spreads_lengths_as_ewn_does():
    runs, accuracy = experiments.image_pruning("digits", (0,), ("plain", "ewn", "control"), (3.0, 10.0))
    assert runs["reached"].all()
    assert len(runs) == 3 * 2
    assert len(accuracy) == 3 * 11 * (4 + 5)  # scores; the change since an earlier checkpoint is one more
    assert not accuracy.duplicated(["method", "seed", "z", "score", "pruned_percent"]).any()
    whole = accuracy[accuracy["pruned_percent"] == 0]
    assert (whole.groupby(["method", "seed", "z"])["accuracy"].nunique() == 1).all()
    assert whole["accuracy"].min() > 80
    np.testing.assert_array_equal(runs["accuracy"], whole[whole["score"] == "length"]["accuracy"])
    gini = runs[runs["z"] == 10].set_index("method")["gini"]
    assert gini["ewn"] > 1.3 * gini["plain"]
    assert gini["control"] == pytest.approx(gini["ewn"], abs=0.03)


@pytest.fixture
def pruned_cnn():
    """A small network, and a descent that stays where it starts, with a longer first filter at the start."""
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * 16, 2),
    )  # fmt: skip
    # as text their order is another: 10 before 9, 0.5 before 9.9e-05
    sizes = torch.tensor([9.0, 9.9e-05, 10.0, 0.5])
    for layer in (network[0], network[2]):
        layer.weight.data.mul_((sizes / layer.weight.flatten(1).norm(dim=1)).reshape(4, 1, 1, 1))
        layer.bias.data.fill_(0.3)
    now = {n: p.detach().unsqueeze(0) for n, p in network.named_parameters()}
    start = now | {"0.weight": now["0.weight"] * torch.tensor([2.0, 1, 1, 1]).reshape(1, 4, 1, 1, 1)}
    seen = start, [start, now, now], np.zeros((1, 3)), np.zeros(1), [""]
    return network, experiments._Descent((1.0, 2.0), *seen)


def test_scores_are_what_their_names_say(pruned_cnn):
    network, descent = pruned_cnn
    first, second = (experiments._unit_scores(descent, 1, layer, [7], growth=True) for layer in ("0", "2"))
    assert list(second) == ["length", "since start", "since z = 1", "random"]
    torch.testing.assert_close(second["length"][0], network[2].weight.detach().flatten(1).norm(dim=1))
    assert not second["since start"].any()
    torch.testing.assert_close(first["since start"][0], torch.tensor([-9.0, 0, 0, 0]))
    assert torch.equal(first["since start"], first["since z = 1"])
    assert torch.equal(first["random"], second["random"])  # a seed's own, whatever the layer


@pytest.mark.parametrize(("percent", "gone"), [(0, []), (25, [1]), (50, [1, 3]), (75, [1, 3, 0])])
def test_pruned_accuracy_equals_a_slow_loop_over_filters(pruned_cnn, percent, gone):
    network, descent = pruned_cnn
    x, y = torch.randn(40, 1, 4, 4), torch.randint(0, 2, (40,))
    scores = {name: experiments._unit_scores(descent, 1, name, [0], growth=False) for name in ("0", "2")}
    data = Ensemble([network]), descent.states[1], scores
    found = experiments._pruned_accuracy(*data, x, y, [percent], "cpu")
    stays = torch.tensor([u not in gone for u in range(4)]).reshape(1, 4, 1, 1)
    with torch.no_grad():
        h = network[2](network[0](x).relu() * stays).relu() * stays
        right = (network[5](h.flatten(1)).argmax(1) == y).double().mean()
    assert found["length", percent].item() == pytest.approx(100 * float(right))
    own = experiments._pruned_accuracy(*data, x[None], y[None], [percent], "cpu")  # data of its own
    np.testing.assert_array_equal(own, found)
