"""Small runs of every theory experiment; regression values come from an independent implementation."""

import numpy as np
import pytest

from repro.papers.ewn_inductive_bias import flow_experiments as experiments
from repro.papers.ewn_inductive_bias.two_weights import conserved


@pytest.fixture(scope="module")
def runs():
    # Seed 44 never fits under SWN: it tests that nobody is dropped.
    return experiments.lin_sep_flows([0, 2, 4, 44], z_max=1000.0)


def test_flow_identity_and_its_controls():
    table = experiments.flow_identity([0, 1])
    assert len(table) == 2 * 2 * 2
    assert table["deviation"].max() < 1e-6
    assert table["norm_drift"].max() < 1e-8
    assert table["relative_change"].min() > 0.5
    assert table["plain_distance"].min() > 0.05
    assert table[table.radius == 2]["short_form_deviation"].min() > 0.05
    assert table[table.radius == 1]["short_form_deviation"].max() < 1e-6


def test_euler_converges_with_order_one_and_directions_never_shrink():
    table = experiments.euler_convergence([0, 1, 2], horizon=2.0)
    ratios = table["ratio"].dropna()
    assert len(ratios) == 3 * 2 * 2
    assert ratios.between(1.9, 2.1).all()
    assert table["recursion_error"].max() < 1e-12
    assert table["smallest_growth"].min() > -1e-14


def test_euler_refuses_steps_that_do_not_fit():
    with pytest.raises(ValueError, match="half of the one before"):
        experiments.euler_convergence([0], step_sizes=(0.01, 0.004))
    with pytest.raises(ValueError, match="multiple of every step size"):
        experiments.euler_convergence([0], step_sizes=(0.03, 0.015), horizon=1.0)


def test_seeds_that_never_fit_keep_their_rows(runs):
    for table in (
        experiments.alignment_table(runs),
        experiments.relation_table(runs),
        experiments.pair_table(runs),
    ):
        assert len(table) == 4 * 3
        lost = table[~table.fits]
        assert list(zip(lost.seed, lost.method, strict=True)) == [(44, "swn")]
        # One point stays at margin 0: the exponential loss cannot fall below 1.
        assert lost["z_last"].iloc[0] == pytest.approx(0.0, abs=1e-3)
        assert lost.iloc[:, 4:].isna().all(axis=None)
    assert set(experiments.node_table(runs).query("method == 'swn'").seed) == {0, 2, 4}


def test_weights_are_antiparallel_to_their_gradients(runs):
    table = experiments.alignment_table(runs).query("fits")
    assert (table["worst_cosine"] < -0.95).all()
    assert (table["median_cosine"] < -0.98).all()
    assert (table["median_cosine"] < table["median_cosine_early"] + 0.005).all()
    # Nodes that do not grow are no evidence, and not all are aligned.
    nodes = experiments.node_table(runs)
    assert nodes[~nodes.active]["cosine"].max() > -0.9


def test_relations_hold_with_the_right_sign_only(runs):
    table = experiments.relation_table(runs).query("fits")
    assert (table["across"] < table["across_wrong"])[table.method != "ewn"].all()
    two = table[(table.method == "ewn") & (table.n_active_hidden == 2)]
    assert (two["across"] < 0.15).all()
    assert (two["across_wrong"] > 0.3).all()


def test_three_active_neurons_leave_the_predicted_gap(runs):
    table = experiments.relation_table(runs).set_index(["seed", "method"]).loc[(2, "ewn")]
    assert table["n_active_hidden"] == 3
    assert table["predicted_gap"] == pytest.approx(np.log(1.5))
    assert table["gap"] == pytest.approx(np.log(1.5), abs=0.05)
    assert table["across"] > 0.4  # the law does not hold across layers here
    assert table["within"] < 0.15


def test_pairs_move_as_predicted(runs):
    table = experiments.pair_table(runs)
    sums = table.groupby("method")[["n_correct", "n_pairs"]].sum()
    assert (sums["n_pairs"] >= 5).all()
    assert (sums["n_correct"] >= 0.95 * sums["n_pairs"]).all()


def test_the_bound_holds_and_its_constant_is_the_number_of_active_nodes(runs):
    table = experiments.bound_table(runs).set_index("seed")
    assert set(table["method"]) == {"ewn"}
    assert (table["smallest_ratio"] > 1).all()
    # The ratio is n/L² R/z² with n = 9 = L²; products d_l z/n_l make it 3 for two active hidden nodes and 7/3
    # for three.
    assert table.loc[0, "last_ratio"] == pytest.approx(3, abs=0.05)
    assert table.loc[2, "last_ratio"] == pytest.approx(7 / 3, abs=0.05)


def test_trajectories_have_one_row_a_node_and_point(runs):
    table = experiments.trajectory_table(runs)
    first = table[(table.seed == 0) & (table.method == "ewn")]
    assert len(first) == 9 * first["z"].nunique()
    assert first.groupby("z")["log_time"].first().is_monotonic_increasing
    with pytest.raises(ValueError, match="no point of this flow"):
        runs[0].at(2000.0)


def test_the_last_gradients_are_those_of_the_last_weights(runs):
    # Euler's identity with degrees 2 and 1 ties lengths, gradients and cosines to z, layer by layer.
    for run in runs:
        if run.fits:
            last = run.at(1000.0)
            inner = last.weight_norm * last.gradient_norm * np.nan_to_num(last.cosine)
            assert inner[last.layer == 0].sum() == pytest.approx(2 * inner[last.layer == 1].sum(), rel=1e-9)
            assert -inner[last.layer == 1].sum() == pytest.approx(1000.0, rel=0.01)


def test_the_logistic_loss_gives_the_same_picture():
    run = experiments.lin_sep_flows([0], methods=["ewn"], z_max=300.0, loss="logistic")
    table = experiments.relation_table(run)
    assert table["across"].iloc[0] < 0.15
    assert run[0].path.error < 1e-5


def test_simple_trajectories():
    table = experiments.simple_trajectories(40, seed=1)
    assert len(table) == 45 * 2
    assert table["path_error"].max() < 1e-5
    ewn = table[table.method == "ewn"]
    assert ewn["drift"].max() < 1e-6
    assert (ewn["predicted"] == ewn["winner"]).all()
    assert set(ewn["winner"]) == {1, 2}
    # printed end points of the exact flow from (1, 1) and (1, 5)
    np.testing.assert_allclose(
        ewn[["end_1", "end_2"]].to_numpy()[[0, 4]], [[24.040, 1.920], [1.556, 46.888]], atol=6e-4
    )
    plain = table[table.method == "plain"]
    slopes = (plain["end_2"] - plain["start_2"]) / (plain["end_1"] - plain["start_1"])
    np.testing.assert_allclose(slopes, 0.5, rtol=1e-6)


@pytest.mark.parametrize("start", [(1.0, 1.0), (3.0, 1.0), (1.0, 5.0), (1.0, 2.0), (1.0, 2.0 + 1e-9)])
def test_exact_points_lie_on_the_curve_at_the_right_loss(start):
    z = np.array([2 * start[0] + start[1], 10.0, 50.0, 1e4])
    w1, w2 = experiments.exact_point(start, z, "ewn")
    np.testing.assert_allclose(2 * w1 + w2, z, rtol=1e-12)
    np.testing.assert_allclose(conserved(w1, w2), conserved(*start), atol=1e-12)
    np.testing.assert_allclose([w1[0], w2[0]], start, rtol=1e-9)
    limit = experiments.loser_limit(start)
    if limit < 100:
        assert min(w1[-1], w2[-1]) == pytest.approx(limit, rel=2e-3)


def test_exact_points_refuse_what_has_no_closed_form():
    with pytest.raises(ValueError, match="'swn'"):
        experiments.exact_point((1.0, 1.0), 50.0, "swn")
    with pytest.raises(ValueError, match="two positive weights"):
        experiments.exact_point((1.0, -1.0), 50.0, "ewn")


def test_rate_exponents():
    table = experiments.rate_exponents(depths=(1, 2, 3), seeds=(0, 1), methods=("ewn", "plain", "swn"))
    assert len(table) == 3 * 2 * 3 - 2  # no SWN at depth 1
    assert (table["exponent"] - table["expected"]).abs().max() < 0.1
    assert table["clock_error"].max() < 1e-5
    # regression values of an independent implementation, z from 50 to 300
    means = table.groupby(["method", "depth"])["exponent"].mean()
    assert means["ewn", 1] == pytest.approx(1.988, abs=2e-3)
    assert means["plain", 2] == pytest.approx(0.994, abs=5e-3)
    assert means["plain", 3] == pytest.approx(1.319, abs=0.02)


def test_depth_one_curves_are_the_authors():
    curves = experiments.depth_curves(depths=(1,), every=1)
    losses = curves.set_index(["method", "step"])["loss"]
    # The authors' n-th entry is the loss before their n-th step.
    logged_at = [0, 99, 999, 4999]
    logged = {
        "plain": (3.77168, 1.76371, 0.50459, 0.14633),
        "swn": (3.77168, 1.76463, 0.45944, 0.12467),
        "ewn": (3.77168, 1.85256, 0.12771, 0.00871),
    }
    for method, expected in logged.items():
        np.testing.assert_allclose(losses[method].loc[logged_at], expected, atol=6e-6)
    unit = experiments.depth_curves(methods=["ewn"], depths=(1,), unit_last=True, every=1)
    losses = unit.set_index("step")["loss"].loc[logged_at[1:]]
    # regression values of an independent implementation
    np.testing.assert_allclose(losses, [1.84787, 0.14057, 0.00900], atol=6e-6)


def test_depth_curves_of_many_seeds_are_those_of_one():
    both = experiments.depth_curves([0, 3], depths=(1, 3), n_steps=40, every=20, width=12)
    alone = experiments.depth_curves([3], depths=(1, 3), n_steps=40, every=20, width=12)
    columns = ["depth", "method", "step", "loss"]
    np.testing.assert_allclose(both[both.seed == 3][columns[-1]], alone[columns[-1]], rtol=1e-10)
    deep = both[(both.depth == 3) & (both.step == 40)].groupby("method")["loss"]
    assert (deep.max() - deep.min() > 1e-4).all()
    ratios = experiments.depth_ratios(both)
    assert len(ratios) == 3 * 2
    assert (ratios["ratio"] >= 1).all()
