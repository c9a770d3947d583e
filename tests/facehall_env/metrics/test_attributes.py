"""The attribute head: what it learns, and its way to disk and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.metrics.attributes import AttributeHead

NAMES = ("Smiling", "Rare")


def examples(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Smiling is a direction of the embedding, one in ten is rare along another."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(number, 6, generator=generator)
    noisy = embeddings[:, :2] + 0.2 * torch.randn(number, 2, generator=generator)
    labels = noisy > torch.tensor([0.0, 1.28])
    # Scales and offsets of embeddings are arbitrary.
    return 100 * embeddings + 7, labels


def test_it_learns_directions_and_rare_attributes() -> None:
    head = AttributeHead(6, NAMES).fit(*examples(800))
    embeddings, labels = examples(800, seed=1)
    right = head.predict(embeddings) == labels
    # Of those with an attribute and of those without: guessing gives one half of each.
    shares = [right[:, i][labels[:, i] == answer] for i in (0, 1) for answer in (True, False)]
    assert min(share.double().mean() for share in shares) > 0.85
    weights = head.linear.weight.detach()
    assert weights.abs().argmax(dim=1).tolist() == [0, 1]


def test_the_fit_is_the_minimum() -> None:
    embeddings, labels = examples(300)
    head = AttributeHead(6, NAMES).fit(embeddings, labels, decay=0.01)
    wanted = labels.float()
    # Both answers weigh one half.
    weight = wanted * 0.5 / wanted.mean(0) + (1 - wanted) * 0.5 / (1 - wanted.mean(0))
    logits = head(embeddings)
    loss = (weight * torch.nn.functional.softplus(torch.where(labels, -logits, logits))).mean(0)
    total = loss.sum() + 0.005 * head.linear.weight.square().sum()
    gradients = torch.autograd.grad(total, list(head.linear.parameters()))
    assert max(gradient.abs().max().item() for gradient in gradients) < 1e-3
    again = AttributeHead(6, NAMES).fit(embeddings, labels, decay=0.01)
    assert torch.equal(again.linear.weight, head.linear.weight)


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    embeddings, labels = examples(100)
    head = AttributeHead(6, NAMES).fit(embeddings, labels)
    head.save(tmp_path / "head.safetensors")
    loaded = AttributeHead.load(tmp_path / "head.safetensors")
    assert loaded.names == NAMES
    assert torch.equal(loaded(embeddings), head(embeddings))
    with pytest.raises(WeightsError, match="No attributes file"):
        AttributeHead.load(tmp_path / "other.safetensors")


def test_labels_that_cannot_be() -> None:
    embeddings, labels = examples(50)
    with pytest.raises(ConfigurationError, match=r"expected \(N, 6\) and \(N, 2\)"):
        AttributeHead(6, NAMES).fit(embeddings, labels[:, :1])
    labels[:, 1] = False
    with pytest.raises(ConfigurationError, match="Rare is the same on all 50 faces"):
        AttributeHead(6, NAMES).fit(embeddings, labels)
