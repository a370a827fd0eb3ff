"""Data and initial weights are those of the authors' code and logs."""

import numpy as np
import pytest
import torch

from repro.papers.ewn_inductive_bias.settings import (
    default_weights,
    depth_problem,
    depth_weights,
    lin_sep_problem,
)
from repro.papers.ewn_inductive_bias.theory import row_norm


def test_lin_sep_is_the_authors():
    problem = lin_sep_problem()
    expected = [[1, 1], [1.7225161895, 1.1077069688], [-1, 1], [-1.4814835954, -1.3915848330]]
    np.testing.assert_allclose(problem.x, expected, atol=5e-11)
    np.testing.assert_array_equal(problem.y, [-1, -1, 1, 1])


def test_initial_lengths_are_those_of_the_authors_logs():
    hidden, output = default_weights((2, 8, 1), 2137)
    logged = [0.440, 0.690, 0.034, 0.231, 0.453, 0.701, 0.547, 0.716]
    np.testing.assert_allclose(row_norm(hidden), logged, atol=5.1e-4)
    np.testing.assert_allclose(row_norm(output), [0.689], atol=5.1e-4)
    xor = [0.376, 0.909, 0.789, 0.560, 0.681, 0.228, 0.544, 0.688, 0.228, 0.721]
    xor += [0.405, 0.367, 0.730, 0.693, 0.897, 0.637, 0.137, 0.935, 0.566, 0.504]
    np.testing.assert_allclose(row_norm(default_weights((2, 20), 9156)[0]), xor, atol=5.1e-4)


def test_drawing_weights_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = default_weights((2, 3, 1), 1)
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first[0], default_weights((2, 3, 1), 1)[0])
    assert np.abs(first[0] - default_weights((2, 3, 1), 2)[0]).max() > 0.01


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_every_depth_starts_as_the_authors_map(depth):
    problem, first_map = depth_problem("logistic")
    np.testing.assert_allclose(first_map, [-0.6750711479, -0.3185036485], atol=5e-11)
    assert problem.x.shape == (20, 2)
    np.testing.assert_array_equal(problem.x[[0, 10]], [[1, 1], [-1, 1]])
    weights = depth_weights(depth, 30, 4, first_map)
    assert len(weights) == depth
    # the loss at the start that the authors' logs print
    assert np.exp(problem.gradient(weights)[0]) == pytest.approx(3.7717, abs=5e-5)
