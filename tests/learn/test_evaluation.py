"""Losses and accuracies against scikit-learn, in pieces or not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss

from repro.learn import Ensemble, evaluate, perceptron


@settings(max_examples=12)
@given(n=st.sampled_from([1, 7, 30, 9000]), size=st.integers(1, 3), per_member=st.booleans())
def test_agrees_with_scikit_learn(n, size, per_member):
    members = [perceptron((4, 5, 3)) for _ in range(size)]
    x = torch.randn((size, n, 4) if per_member else (n, 4))
    y = torch.randint(3, (size, n) if per_member else (n,))
    losses, accuracies = evaluate(Ensemble(members), x, y, per_member=per_member)
    for i, member in enumerate(members):
        own_x, own_y = (x[i], y[i]) if per_member else (x, y)
        probabilities = member(own_x).softmax(1).detach().double().numpy()
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        assert losses[i].item() == pytest.approx(log_loss(own_y, probabilities, labels=[0, 1, 2]), rel=1e-5)
        assert accuracies[i].item() == pytest.approx(accuracy_score(own_y, probabilities.argmax(1)))
        alone = evaluate(member, own_x, own_y)
        assert alone[0].item() == pytest.approx(losses[i].item(), rel=1e-6)
    assert members[0].training


def test_one_output_is_cut_at_zero():
    network = perceptron((1, 1), bias=False)
    with torch.no_grad():
        network[1].weight.fill_(1.0)
    x, y = torch.tensor([[-1.0], [0.2], [0.8]]), torch.tensor([0, 1, 0])
    losses, accuracies = evaluate(network, x, y, loss=lambda s, y: (s[:, 0] - y).square())
    assert losses.item() == pytest.approx((1 + 0.8**2 + 0.8**2) / 3)
    assert accuracies.item() == pytest.approx(2 / 3)


def test_nothing_to_evaluate_and_a_loss_that_averages_are_refused():
    x, y = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="no examples"):
        evaluate(perceptron((2, 2)), x[:0], y[:0])
    with pytest.raises(ValueError, match="one number for each example"):
        evaluate(perceptron((2, 2)), x, y, loss=torch.nn.functional.cross_entropy)
