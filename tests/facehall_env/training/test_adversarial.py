"""SPARNetHD's losses against numbers worked out by hand, and its discriminators."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from facehall_env.enhancers import parameter_count
from facehall_env.errors import ConfigurationError
from facehall_env.metrics.perceptual import Features
from facehall_env.training.adversarial import (
    Discriminator,
    Discriminators,
    Judgement,
    discriminator_hinge,
    discriminator_loss,
    feature_matching,
    generator_hinge,
    generator_loss,
    perceptual_distance,
)
from facehall_env.training.settings import LossWeights


def judgement(*scores: float, features: tuple[Tensor, ...] = ()) -> Judgement:
    return Judgement(torch.tensor(scores), list(features))


@pytest.fixture
def faces() -> tuple[Tensor, Tensor]:
    """Restored faces, with gradients, and true ones: (2, 3, 24, 24)."""
    generator = torch.Generator().manual_seed(0)
    restored, truth = torch.rand(2, 2, 3, 24, 24, generator=generator)
    return restored.requires_grad_(), truth


@pytest.fixture
def discriminators() -> Discriminators:
    """Two scales of two small layers each."""
    torch.manual_seed(1)
    return Discriminators(2, (4, 6))


def test_the_size_is_that_of_the_paper() -> None:
    """Parameters counted by hand, and score maps of 30, 14 and 6 places a side."""
    with torch.device("meta"):
        three = Discriminators()
        judged = three(torch.empty(1, 3, 512, 512))
    strided = [(64, 128), (128, 256), (256, 512), (512, 512)]
    expected = (
        (27 * 64 + 64)
        + sum(9 * before * after + 2 * after for before, after in strided)
        + (9 * 512 + 1)
    )
    assert expected == 3_916_801
    assert parameter_count(three) == 3 * expected
    assert f"{expected:,}" in (Discriminator.__doc__ or "")
    assert [tuple(j.score.shape[2:]) for j in judged] == [(30, 30), (14, 14), (6, 6)]
    assert [f.shape[1] for f in judged[0].features] == [64, 128, 256, 512, 512]


def test_the_generators_hinge_by_hand() -> None:
    # -(0.5 - 1.5 + 4) / 3 and -(-2).
    judged = [judgement(0.5, -1.5, 4.0), judgement(-2.0)]
    assert generator_hinge(judged).item() == pytest.approx(-1 + 2)


def test_the_discriminators_hinge_by_hand() -> None:
    real = [judgement(0.25, 1.0, 3.0), judgement(-1.0)]
    restored = [judgement(-1.0, -5.0, 0.5), judgement(0.0)]
    # First: (0.75 + 0 + 0) / 3 + (0 + 0 + 1.5) / 3; second: 2 + 1.
    assert discriminator_hinge(real, restored).item() == pytest.approx(0.25 + 0.5 + 3)


def test_scores_beyond_the_margin_have_no_gradient() -> None:
    real = torch.tensor([1.5, 0.5], requires_grad=True)
    restored = torch.tensor([-1.5, -0.5], requires_grad=True)
    discriminator_hinge([Judgement(real, [])], [Judgement(restored, [])]).backward()
    assert real.grad is not None
    assert restored.grad is not None
    assert real.grad.tolist() == [0, -0.5]
    assert restored.grad.tolist() == [0, 0.5]


def test_feature_matching_by_hand_and_one_way() -> None:
    a = torch.tensor([[1.0, 2.0]], requires_grad=True)
    b = torch.tensor([[0.0, 5.0]], requires_grad=True)
    c, d = torch.tensor([1.0, 1.0, 4.0]), torch.tensor([1.0, 1.0, 1.0])
    restored = [judgement(features=(a, c)), judgement(features=(c,))]
    real = [judgement(features=(b, d)), judgement(features=(d,))]
    loss = feature_matching(restored, real)
    # Layers (1 + 3) / 2 and 3 / 3, then 3 / 3 of the second discriminator.
    assert loss.item() == pytest.approx(2 + 1 + 1)
    loss.backward()
    assert a.grad is not None
    assert a.grad.tolist() == [[0.5, -0.5]]
    assert b.grad is None


def test_the_perceptual_distance_by_hand() -> None:
    """A backbone of one layer that adds up the colours, and one that doubles what comes."""
    backbone = Features(((1, 1, 1, 0), (1, 1, 1, 0)), taps=(0, 1))
    with torch.no_grad():
        for layer, weight in ((backbone.features[0], 1.0), (backbone.features[2], 2.0)):
            assert isinstance(layer, nn.Conv2d)
            layer.weight.fill_(weight)
            layer.bias.fill_(10.0)
    restored = torch.full((1, 3, 2, 2), 0.5, requires_grad=True)
    truth = torch.full((1, 3, 2, 2), 0.4, requires_grad=True)
    loss = perceptual_distance(backbone, restored, truth)
    first = 0.1 * (1 / 0.229 + 1 / 0.224 + 1 / 0.225)
    assert loss.item() == pytest.approx(first + 2 * first, rel=1e-5)
    loss.backward()
    assert truth.grad is None
    assert restored.grad is not None
    assert restored.grad.abs().min() > 0


def test_the_generators_loss_is_the_weighed_sum_of_its_parts(faces, discriminators) -> None:
    restored, truth = faces
    backbone = Features((2, "M", 3), taps=(0, 1))
    discriminators.eval()  # So that all passes have the same spectral norms.
    weights = LossWeights(100, 1, 10, 1)
    assert weights == LossWeights()
    loss, parts = generator_loss(restored, truth, discriminators, weights, backbone)
    judged, real = discriminators(restored), discriminators(truth)
    expected = (
        100 * (restored - truth).abs().mean()
        - sum(j.score.mean() for j in judged)
        + 10 * feature_matching(judged, real)
        + perceptual_distance(backbone, restored, truth)
    )
    torch.testing.assert_close(loss, expected)
    assert list(parts) == ["pixel", "adversarial", "matching", "perceptual"]
    assert not any(part.requires_grad for part in parts.values())
    loss.backward()
    assert restored.grad is not None
    assert restored.grad.abs().min() > 0


def test_each_discriminator_sees_its_own_scale(faces, discriminators) -> None:
    _, truth = faces
    discriminators.eval()
    judged = discriminators(truth)
    halved = truth.reshape(2, 3, 12, 2, 12, 2).mean((3, 5))
    torch.testing.assert_close(judged[1].score, discriminators[1](halved).score)
    torch.testing.assert_close(judged[0].score, discriminators[0](truth).score)


def test_nothing_flows_from_the_discriminators_loss_into_the_faces(faces, discriminators) -> None:
    restored, truth = faces
    discriminator_loss(restored, truth, discriminators).backward()
    assert restored.grad is None
    for name, parameter in discriminators.named_parameters():
        assert parameter.grad is not None, name


def test_discriminators_learn_to_tell_faces_apart(faces, discriminators) -> None:
    restored, truth = faces[0].detach() * 0.2, faces[1]
    optimizer = torch.optim.Adam(discriminators.parameters(), 1e-2, betas=(0.5, 0.99))
    losses = []
    for _ in range(25):
        loss = discriminator_loss(restored, truth, discriminators)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1


def test_what_cannot_work_is_refused(faces, discriminators) -> None:
    with pytest.raises(ConfigurationError, match="no VGG19: give its weights with --vgg19"):
        generator_loss(*faces, discriminators, LossWeights())
    with pytest.raises(ConfigurationError, match="faces of 8x40 pixels and needs 12"):
        Discriminator((2, 2, 2))(torch.rand(1, 3, 8, 40))
    with pytest.raises(ConfigurationError, match="0 discriminators"):
        Discriminators(0)
    with pytest.raises(ConfigurationError, match="make no discriminator"):
        Discriminator(())
