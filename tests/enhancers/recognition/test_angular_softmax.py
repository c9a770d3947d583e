"""The angular margin against an integral, and the loss against loops in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from facehall_env.errors import ConfigurationError
from facehall_env.recognition import AngularSoftmax, psi

MARGINS = (1.0, 1.5, 2.0, 4.0)


def angles(number: int = 20_001) -> Tensor:
    return torch.linspace(0, math.pi, number, dtype=torch.float64)


class TestPsi:
    @pytest.mark.parametrize("margin", MARGINS)
    def test_continuous_and_falling(self, margin: float) -> None:
        theta = angles()
        steps = psi(theta, margin).diff()
        assert steps.max() <= 0
        # No steeper than its slope, m, allows: a jump would be.
        assert steps.abs().max() <= margin * math.pi / 20_000 * (1 + 1e-6)

    @pytest.mark.parametrize("margin", MARGINS)
    def test_against_the_integral_of_its_slope(self, margin: float) -> None:
        theta = angles().numpy()
        slope = margin * np.abs(np.sin(margin * theta))
        area = np.concatenate([[0], np.cumsum((slope[1:] + slope[:-1]) / 2 * np.diff(theta))])
        np.testing.assert_allclose(psi(angles(), margin).numpy(), 1 - area, atol=1e-6)

    @pytest.mark.parametrize("margin", MARGINS)
    def test_its_gradient_is_its_slope(self, margin: float) -> None:
        theta = angles(1001).requires_grad_()
        psi(theta, margin).sum().backward()
        assert theta.grad is not None
        expected = -margin * (margin * theta).sin().abs()
        torch.testing.assert_close(theta.grad, expected.detach(), atol=1e-9, rtol=0)

    def test_no_margin_is_the_cosine(self) -> None:
        torch.testing.assert_close(psi(angles(), 1), angles().cos())

    def test_by_hand(self) -> None:
        theta = torch.tensor([0, math.pi / 3, math.pi / 2, math.pi], dtype=torch.float64)
        expected = [1, 0, -math.sqrt(0.5), -2]
        # At the end k = 1, and -cos(3π/2) is zero.
        assert psi(theta, 1.5).tolist() == pytest.approx(expected, abs=1e-9)


def reference(
    embedding: np.ndarray, weight: np.ndarray, label: list[int], margin: float, annealing: float
) -> list[float]:
    """Eq. 14 of the IPFH paper face by face and person by person."""
    losses = []
    for x, own in zip(embedding, label, strict=True):
        length = math.sqrt(sum(value**2 for value in x))
        logits = []
        for number, w in enumerate(weight.T):
            cosine = sum(a * b for a, b in zip(x, w, strict=True)) / length
            cosine /= math.sqrt(sum(value**2 for value in w))
            if number == own:
                angle = margin * math.acos(cosine)
                k = int(angle / math.pi)
                harder = (-1) ** k * math.cos(angle) - 2 * k
                cosine = (annealing * cosine + harder) / (1 + annealing)
            logits.append(length * cosine)
        share = math.exp(logits[own]) / sum(map(math.exp, logits))
        losses.append(-math.log(share))
    return losses


def example(margin: float) -> tuple[AngularSoftmax, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    head = AngularSoftmax(4, 3, margin=margin).double()
    head.weight.data.copy_(3 * torch.randn(4, 3, generator=generator, dtype=torch.float64))
    embedding = 2 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    return head, embedding, torch.tensor([0, 1, 2, 2, 1, 0])


class TestLoss:
    @pytest.mark.parametrize("margin", MARGINS)
    @pytest.mark.parametrize("annealing", [0.0, 5.0, 750.0])
    def test_against_loops(self, margin: float, annealing: float) -> None:
        head, embedding, label = example(margin)
        expected = reference(
            embedding.numpy(), head.weight.detach().numpy(), label.tolist(), margin, annealing
        )
        losses = head.losses(embedding, label, annealing)
        assert losses.tolist() == pytest.approx(expected, rel=1e-9)

    def test_the_margin_comes_slowly(self) -> None:
        head, embedding, label = example(1.5)
        assert head.annealing == 1500
        for _ in range(10):
            head.advance()
        assert head.annealing == 750
        weight = head.weight.detach().numpy()
        expected = reference(embedding.numpy(), weight, label.tolist(), 1.5, 750)
        assert head(embedding, label).item() == pytest.approx(np.mean(expected), rel=1e-9)
        head.iteration.fill_(10_000)
        assert head.annealing == 5
        again = AngularSoftmax(4, 3).double()
        again.load_state_dict(head.state_dict())
        assert again.annealing == 5

    @pytest.mark.parametrize("margin", MARGINS)
    def test_gradients_flow_to_embedding_and_weight(self, margin: float) -> None:
        head, embedding, label = example(margin)
        embedding.requires_grad_()

        def loss(embedding: Tensor, weight: Tensor) -> Tensor:
            state = {"head.weight": weight}
            losses: Tensor = functional_call(_Losses(head), state, (embedding, label, 5.0))
            return losses

        assert torch.autograd.gradcheck(loss, (embedding, head.weight))
        head.losses(embedding, label).sum().backward()
        assert embedding.grad is not None
        assert head.weight.grad is not None
        assert bool((embedding.grad.norm(dim=1) > 0).all())
        assert bool((head.weight.grad.norm(dim=0) > 0).all())

    def test_the_length_of_a_persons_weights_does_not_matter(self) -> None:
        head, embedding, label = example(1.5)
        before = head.losses(embedding, label)
        head.weight.data *= torch.tensor([0.1, 7.0, 2.0])
        torch.testing.assert_close(head.losses(embedding, label), before)

    def test_finite_where_a_face_points_at_a_person_or_away(self) -> None:
        head = AngularSoftmax(2, 2, margin=1.5)
        head.weight.data.copy_(torch.eye(2))
        embedding = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 0.0]], requires_grad=True)
        losses = head.losses(embedding, torch.tensor([0, 0, 1]))
        expected = [math.log1p(math.exp(-2)), math.log1p(math.exp(4)), math.log(2)]
        assert losses.tolist() == pytest.approx(expected, abs=0.01)
        losses.sum().backward()
        assert embedding.grad is not None
        assert bool(torch.isfinite(embedding.grad).all())


class _Losses(torch.nn.Module):
    def __init__(self, head: AngularSoftmax) -> None:
        super().__init__()
        self.head = head

    def forward(self, embedding: Tensor, label: Tensor, annealing: float) -> Tensor:
        return self.head.losses(embedding, label, annealing)


class TestBadInput:
    @pytest.mark.parametrize("label", [[0, -1], [3, 0]])
    def test_a_person_it_does_not_know(self, label: list[int]) -> None:
        with pytest.raises(ConfigurationError, match="knows 0 to 2: an identity loss needs"):
            AngularSoftmax(2, 3)(torch.ones(2, 2), torch.tensor(label))

    def test_embeddings_of_another_recogniser(self) -> None:
        with pytest.raises(ConfigurationError, match=r"shape \(2, 5\), expected \(N, 4\)"):
            AngularSoftmax(4, 3)(torch.ones(2, 5), torch.tensor([0, 1]))

    def test_labels_that_are_no_numbers_of_people(self) -> None:
        for label in (torch.tensor([0]), torch.tensor([0.0, 1.0])):
            with pytest.raises(ConfigurationError, match="a whole number for each of 2 faces"):
                AngularSoftmax(4, 3)(torch.ones(2, 4), label)

    def test_a_margin_below_one(self) -> None:
        for margin in (0.5, math.nan):
            with pytest.raises(ConfigurationError, match="give at least 1"):
                AngularSoftmax(4, 3, margin=margin)
