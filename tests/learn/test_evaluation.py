"""Losses and accuracies against scikit-learn, whatever the size of the pieces."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss

from repro.learn import Ensemble, accuracy, evaluate, perceptron, small_cnn


@settings(max_examples=20)
@given(n=st.integers(1, 30), size=st.integers(1, 3), chunk=st.integers(1, 40), per_member=st.booleans())
def test_agrees_with_scikit_learn(n: int, size: int, chunk: int, per_member: bool) -> None:
    members = [perceptron((4, 5, 3)) for _ in range(size)]
    x = torch.randn((size, n, 4) if per_member else (n, 4))
    y = torch.randint(3, (size, n) if per_member else (n,))
    losses, accuracies = evaluate(Ensemble(members), x, y, per_member=per_member, chunk=chunk)
    for i, member in enumerate(members):
        own_x, own_y = (x[i], y[i]) if per_member else (x, y)
        probabilities = member(own_x).softmax(1).detach().double().numpy()
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        assert losses[i].item() == pytest.approx(log_loss(own_y, probabilities, labels=[0, 1, 2]), rel=1e-5)
        assert accuracies[i].item() == pytest.approx(accuracy_score(own_y, probabilities.argmax(1)))


def test_accuracy_of_a_module_is_one_number() -> None:
    network = small_cnn()
    x, y = torch.randn(6, 1, 8, 8), torch.randint(10, (6,))
    expected = (network(x).argmax(1) == y).double().mean()
    torch.testing.assert_close(accuracy(network, x, y), expected[None])
    assert network.training


def test_one_output_is_cut_at_zero_or_at_a_half() -> None:
    network = perceptron((1, 1), bias=False)
    with torch.no_grad():
        network[1].weight.fill_(1.0)
    x, y = torch.tensor([[-1.0], [0.2], [0.8]]), torch.tensor([0, 1, 1])
    assert evaluate(network, x, y, loss="logistic")[1].item() == 1.0
    assert evaluate(network, x, y, loss="squared_error")[1].item() == pytest.approx(2 / 3)


def test_nothing_to_evaluate() -> None:
    with pytest.raises(ValueError, match="no examples"):
        accuracy(perceptron((2, 2)), torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
