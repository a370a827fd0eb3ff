import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.papers.ewn_inductive_bias.relations import (
    Nodes,
    active_nodes,
    count_long,
    gini,
    node_quantities,
    pair_predictions,
    relation_sign,
    spread,
    top_share,
)

lengths = st.lists(st.floats(0.01, 100), min_size=2, max_size=20)


def test_node_quantities_by_hand():
    weights = [np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[0.0, 2.0]])]
    gradients = [np.array([[-6.0, -8.0], [0.0, 0.0]]), np.array([[1.0, 1.0]])]
    nodes = node_quantities(weights, gradients)
    np.testing.assert_array_equal(nodes.layer, [0, 0, 1])
    np.testing.assert_allclose(nodes.weight_norm, [5, 1, 2])
    np.testing.assert_allclose(nodes.gradient_norm, [10, 0, np.sqrt(2)])
    np.testing.assert_allclose(nodes.cosine, [-1, np.nan, 1 / np.sqrt(2)])


def test_a_gradient_too_small_to_square_has_no_direction():
    nodes = node_quantities([np.array([[1e-3, 0.0]])], [np.array([[-1e-200, 0.0]])])
    assert np.isnan(nodes.cosine[0])


def test_active_nodes_grow_by_fifteen_per_cent():
    np.testing.assert_array_equal(active_nodes(np.array([1.26, 1.1, 1.0]), np.ones(3)), [True, False, False])


@given(lengths, st.sampled_from([-1, 1]), st.floats(0.1, 10))
def test_spread_is_zero_exactly_on_the_law(w, sign, scale):
    w = np.array(w)
    g = scale * w**-sign
    assert spread(w, g, sign) == pytest.approx(0, abs=1e-12)
    assert spread(w, g, -sign) == pytest.approx(2 * np.ptp(np.log(w)), abs=1e-12)


def test_spread_of_chosen_nodes():
    w, g = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.5, 99.0])
    assert spread(w, g, 1, np.array([True, True, False])) == pytest.approx(0, abs=1e-15)
    assert spread(w, g, 1) == pytest.approx(np.log(297))
    assert np.isnan(spread(w, g, 1, np.array([True, False, False])))


def flow(r, c, method, steps=2000, dt=1e-3):
    """Two aligned nodes with constant gradient lengths c and 1, integrated by Euler."""
    w, g = np.array([r, 1.0]), np.array([c, 1.0])
    for _ in range(steps):
        w = w + dt * g * (w**2 if method == "ewn" else 1.0)
        if w.max() > 1e3:
            break
    return w


@pytest.mark.parametrize("method", ["ewn", "plain", "swn"])
@given(r=st.floats(0.2, 5), c=st.floats(0.2, 5))
def test_the_sign_of_the_change_of_a_ratio_is_predicted_for_two_nodes(method, r, c):
    early = Nodes(np.zeros(2, int), np.array([r, 1.0]), np.array([c, 1.0]), np.full(2, -1.0))
    correct, pairs = pair_predictions(early, flow(r, c, method, 50), method, np.ones(2, bool))
    balanced = abs(np.log(r * c)) <= 0.01 if method == "ewn" else abs(np.log(c / r)) <= 0.01
    assert pairs == (0 if balanced else 1)
    assert correct == pairs


def test_the_wrong_law_predicts_the_wrong_sign():
    # r = 2 and c = 0.8: EWN lets the longer node run away, plain flow shrinks the ratio
    early = Nodes(np.zeros(2, int), np.array([2.0, 1.0]), np.array([0.8, 1.0]), np.full(2, -1.0))
    everyone = np.ones(2, bool)
    assert pair_predictions(early, flow(2.0, 0.8, "ewn", 50), "ewn", everyone) == (1, 1)
    assert pair_predictions(early, flow(2.0, 0.8, "ewn", 50), "plain", everyone) == (0, 1)


def test_nodes_that_are_not_aligned_or_not_asked_for_make_no_pairs():
    cosine = np.array([-1.0, -0.9, np.nan, -1.0])
    early = Nodes(np.zeros(4, int), np.arange(1.0, 5.0), np.arange(1.0, 5.0) ** 2, cosine)
    late = np.arange(1.0, 5.0) ** 3
    assert pair_predictions(early, late, "ewn", np.ones(4, bool))[1] == 1
    assert pair_predictions(early, late, "ewn", np.array([True, True, True, False]))[1] == 0


def test_gini_on_known_vectors():
    assert gini([1, 1, 1, 1]) == pytest.approx(0)
    assert gini([0, 0, 0, 1]) == pytest.approx(3 / 4)
    assert gini([1, 2, 3]) == pytest.approx(2 / 9)


@given(lengths, st.floats(0.01, 100))
def test_gini_is_the_mean_difference_of_all_pairs_and_has_no_unit(w, scale):
    w = np.array(w)
    slow = np.abs(w[:, None] - w[None]).sum() / (2 * w.size**2 * w.mean())
    assert gini(w) == pytest.approx(slow, abs=1e-12)
    assert gini(scale * w[::-1]) == pytest.approx(gini(w), abs=1e-12)


def test_sparsity_of_the_authors_xor_run():
    # final lengths that the authors' logs print (EWN); the shares follow from them
    ewn = [35.65, 32.91, 32.39, 27.77, 5.43, 2.99, 2.26, 1.47, 1.16, 0.86]
    ewn += [0.84, 0.80, 0.52, 0.47, 0.45, 0.36, 0.28, 0.23, 0.19, 0.13]
    assert count_long(ewn) == 4
    assert top_share(ewn, 4) == pytest.approx(0.988, abs=5e-4)
    assert gini(ewn) == pytest.approx(0.737, abs=5e-4)


def test_counts_and_shares_by_hand():
    assert count_long([1.0, 0.21, 0.2, 0.19]) == 2
    assert top_share([3.0, 4.0, 0.0], 1) == pytest.approx(16 / 25)
    assert top_share([3.0, 4.0], 2) == 1


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="not all zero"):
        gini([0.0, 0.0])
    with pytest.raises(ValueError, match="non-negative"):
        count_long([-1.0, 2.0])
    with pytest.raises(ValueError, match="nodes 2, got 3"):
        top_share([1.0, 2.0], 3)
    with pytest.raises(ValueError, match="'unnorm'"):
        relation_sign("unnorm")
