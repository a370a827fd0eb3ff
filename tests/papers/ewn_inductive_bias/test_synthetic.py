import numpy as np
import pytest
import torch

from repro.geometry.parametrizations import row_norm
from repro.papers.ewn_inductive_bias.synthetic import (
    XOR_SEED,
    default_weights,
    depth_set,
    depth_weights,
    lin_sep,
    simple_traj_problem,
    xor_problem,
)


def test_lin_sep_is_the_authors():
    points = lin_sep()
    expected = [[1, 1], [1.7225161895, 1.1077069688], [-1, 1], [-1.4814835954, -1.3915848330]]
    np.testing.assert_allclose(points.x_train, expected, atol=5e-11)
    np.testing.assert_array_equal(points.y_train, [-1, -1, 1, 1])
    assert points.x_test.shape == (100, 2)
    assert np.abs(points.x_test).min() > 1.04828
    assert np.abs(points.x_test).max() < 1.76013
    assert np.abs(lin_sep(1).x_train - points.x_train).max() > 0.01


def test_initial_lengths_are_those_of_the_authors_logs():
    hidden, output = default_weights((2, 8, 1), 2137)
    logged = [0.440, 0.690, 0.034, 0.231, 0.453, 0.701, 0.547, 0.716]
    np.testing.assert_allclose(row_norm(hidden), logged, atol=5.1e-4)
    np.testing.assert_allclose(row_norm(output), [0.689], atol=5.1e-4)
    xor = [0.376, 0.909, 0.789, 0.560, 0.681, 0.228, 0.544, 0.688, 0.228, 0.721]
    xor += [0.405, 0.367, 0.730, 0.693, 0.897, 0.637, 0.137, 0.935, 0.566, 0.504]
    np.testing.assert_allclose(row_norm(default_weights((2, 20, 1), XOR_SEED)[0]), xor, atol=5.1e-4)


def test_drawing_weights_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = default_weights((2, 3, 1), 1)
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first[0], default_weights((2, 3, 1), 1)[0])
    assert np.abs(first[0] - default_weights((2, 3, 1), 2)[0]).max() > 0.01


def test_depth_set_is_the_authors():
    points, first_map = depth_set()
    np.testing.assert_allclose(first_map, [-0.6750711479, -0.3185036485], atol=5e-11)
    assert np.linalg.norm(first_map) == pytest.approx(0.746, abs=5e-4)
    assert points.x_train.shape == (20, 2)
    assert points.x_test.shape == (100, 2)
    np.testing.assert_array_equal(points.x_train[[0, 10]], [[1, 1], [-1, 1]])
    # the loss at the start that the authors' logs print
    margins = points.y_train * (points.x_train @ first_map)
    assert np.log1p(np.exp(-margins)).sum() == pytest.approx(3.7717, abs=5e-5)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_every_depth_starts_as_the_same_map(depth):
    _, first_map = depth_set()
    weights = depth_weights(depth, 30, 4, first_map)
    product = weights[0]
    for w in weights[1:]:
        product = w @ product
    np.testing.assert_allclose(product, first_map[None], atol=1e-12)
    assert len(weights) == depth


def test_xor_has_fixed_outputs_of_both_signs():
    problem = xor_problem()
    weights = default_weights((2, 20, 1), XOR_SEED)[:1]
    hidden = np.maximum(problem.x @ weights[0].T, 0)
    expected = problem.y * (hidden[:, :10].sum(1) - hidden[:, 10:].sum(1))
    np.testing.assert_allclose(problem.margins(weights), expected)
    assert len(problem.gradient(weights)[1]) == 1
    with pytest.raises(ValueError, match="even and positive, got 7"):
        xor_problem(7)


def test_simple_traj_is_twice_the_first_plus_the_second():
    problem = simple_traj_problem()
    weights = [np.array([[3.0], [5.0]])]
    assert problem.margins(weights) == pytest.approx([11.0])
    log_loss, gradient = problem.gradient(weights)
    assert log_loss == pytest.approx(-11.0)
    np.testing.assert_allclose(gradient[0], [[-2.0], [-1.0]])


def test_depth_zero_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        depth_weights(0, 10, 0, np.ones(2))
