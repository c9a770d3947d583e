"""Feature and identity loss against values worked out by hand; files of both parts."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from facehall_env import recognition
from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.recognition import AngularSoftmax, Cognition, Recogniser


class MeanColour(Recogniser):
    """Its embedding is the face's mean colour."""

    name = "mean_colour"

    def __init__(self) -> None:
        super().__init__((4, 4), 3, (0.0,) * 3, (1.0,) * 3)

    def stages(self, normalised: Tensor) -> tuple[Tensor, ...]:
        return (normalised,)

    def embedding_of(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))


def cognition() -> Cognition:
    head = AngularSoftmax(3, 3, margin=1.5)
    head.weight.data.copy_(2 * torch.eye(3))
    return Cognition(MeanColour(), head, ("Blue", "Green", "Red")[::-1]).requires_grad_(False)


def face(*colour: float) -> Tensor:
    return torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 4, 4).clone()


def test_feature_loss_by_hand() -> None:
    restored = torch.cat([face(0.5, 0.1, 0.0), face(0.2, 0.2, 0.2)]).requires_grad_()
    truth = torch.cat([face(0.2, 0.5, 0.0), face(0.2, 0.2, 0.2)]).requires_grad_()
    loss = cognition().feature_loss(restored, truth)
    assert loss.tolist() == pytest.approx([0.09 + 0.16, 0])
    loss.sum().backward()
    assert restored.grad is not None
    assert truth.grad is None
    # Each of the 16 pixels moves the mean by a sixteenth.
    assert restored.grad[0, :, 0, 0].tolist() == pytest.approx([0.6 / 16, -0.8 / 16, 0])


def test_identity_loss_by_hand() -> None:
    restored = torch.cat([face(0.6, 0.0, 0.8), face(0.0, 1.0, 0.0)]).requires_grad_()
    loss = cognition().identity_loss(restored, torch.tensor([0, 1]))
    # cos θ = 0.6 and |x| = 1; cos 1.5 θ by the triple angle of its half, cos² θ/2 = 0.8.
    harder = 4 * 0.8**1.5 - 3 * 0.8**0.5
    first = -harder + math.log(math.exp(harder) + 1 + math.exp(0.8))
    second = -1 + math.log(math.exp(1) + 2)
    assert loss.tolist() == pytest.approx([first, second], abs=1e-4)
    loss.sum().backward()
    assert restored.grad is not None
    # More red and less blue is more like the first person.
    assert restored.grad[0, 0, 0, 0] < 0 < restored.grad[0, 2, 0, 0]


def test_who_is_who() -> None:
    network = cognition()
    assert network.labels(["Green", "Nobody", "Red"]).tolist() == [1, -1, 0]
    faces = torch.cat([face(0.1, 0.2, 0.9), face(0.4, 0.3, 0.2)])
    assert network.classify(faces).tolist() == [2, 0]


def test_without_people_there_is_no_identity_loss() -> None:
    network = Cognition(MeanColour())
    assert network.feature_loss(face(1, 0, 0), face(0, 0, 0)).tolist() == [1]
    with pytest.raises(ConfigurationError, match="'mean_colour' comes without the people"):
        network.identity_loss(face(1, 0, 0), torch.tensor([0]))
    with pytest.raises(ConfigurationError, match="comes without the people"):
        recognition.save_cognition(network, "nowhere.safetensors")


def test_unknown_people_are_refused() -> None:
    network = cognition()
    with pytest.raises(ConfigurationError, match="people from -1 to -1, and knows 0 to 2"):
        network.identity_loss(face(1, 0, 0), network.labels(["Nobody"]))


def test_parts_that_do_not_fit() -> None:
    with pytest.raises(ConfigurationError, match=r"embeddings of 3 values, .* takes 4"):
        Cognition(MeanColour(), AngularSoftmax(4, 2), ("Ada", "Grace"))
    with pytest.raises(ConfigurationError, match="2 classes, but there are 1 names"):
        Cognition(MeanColour(), AngularSoftmax(3, 2), ("Ada",))


def test_save_and_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    recogniser = recognition.make("sphereface", width=2, embedding=6, pooling="gap")
    head = AngularSoftmax(16, 2, margin=2.0)
    head.advance()
    network = Cognition(recogniser, head, ("Åsa", "Zoë"))
    path = tmp_path / "cognition.safetensors"
    recognition.save_cognition(network, path, {"updates": 1})
    again = recognition.load_cognition(path)
    assert again.people == ("Åsa", "Zoë")
    assert again.provenance == {"updates": 1}
    assert again.head is not None
    assert (again.head.margin, int(again.head.iteration)) == (2.0, 1)
    faces, label = torch.rand(2, 3, 32, 32), torch.tensor([1, 0])
    assert torch.equal(again.identity_loss(faces, label), network.identity_loss(faces, label))
    assert not any(parameter.requires_grad for parameter in again.parameters())
    recognition.save(recogniser, tmp_path / "recogniser.safetensors")
    with pytest.raises(WeightsError, match="holds recogniser, expected cognition"):
        recognition.load_cognition(tmp_path / "recogniser.safetensors")
