"""Can one still see whether the face smiles? Attributes predicted from a recogniser's embedding.

IPFH (Table III) reports how well 40 attributes of CelebA are predicted on restored faces. Here a
linear head on the embedding of a recogniser is fitted to true faces and applied to restored ones;
as most attributes are rare, accuracies are balanced.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env.checkpoints import fill, load_tensors, save_tensors
from facehall_env.errors import ConfigurationError

KIND = "attributes"


class AttributeHead(nn.Module):
    """One logistic regression for each attribute, on standardised embeddings.

    Args:
        dimensions: Numbers in an embedding, D.
        names: Names of the A attributes.

    >>> AttributeHead(128, ["Smiling", "Male"])(torch.ones(3, 128)).tolist()
    [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dimensions: int, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("deviation", torch.ones(dimensions))
        self.linear = nn.Linear(dimensions, len(self.names))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Logits (N, A) of embeddings (N, D); positive ones say yes."""
        logits: Tensor = self.linear((embeddings - self.mean) / self.deviation)
        return logits

    def predict(self, embeddings: Tensor) -> Tensor:
        """(N, A) bool, which attributes the faces have."""
        with torch.no_grad():
            return self.forward(embeddings) > 0

    def fit(self, embeddings: Tensor, labels: Tensor, decay: float = 1e-3) -> AttributeHead:
        """Fits the head by binary cross-entropy, both answers weighing the same; returns it.

        The problem is convex: it is solved by L-BFGS from zero, so that the result does not
        depend on a seed.

        Args:
            embeddings: (N, D) of true faces.
            labels: (N, A) bool.
            decay: Weight of half the squared weights of each attribute.

        Raises:
            ConfigurationError: If the shapes do not fit, or an attribute is there on none or on
                all of the faces.
        """
        dimensions, attributes = self.linear.in_features, len(self.names)
        number = len(embeddings)
        if embeddings.shape != (number, dimensions) or labels.shape != (number, attributes):
            raise ConfigurationError(
                f"The embeddings have shape {tuple(embeddings.shape)} and the labels "
                f"{tuple(labels.shape)}: expected (N, {dimensions}) and (N, {attributes})."
            )
        wanted = labels.to(embeddings)
        share = wanted.mean(dim=0)
        useless = [n for n, own in zip(self.names, share.tolist(), strict=True) if own in (0, 1)]
        if useless:
            raise ConfigurationError(
                f"{useless[0]} is the same on all {number} faces: leave it out, or use more faces."
            )
        self.mean.copy_(embeddings.mean(dim=0))
        self.deviation.copy_(embeddings.std(dim=0).clamp_min(1e-6))
        weight = torch.where(wanted > 0, 0.5 / share, 0.5 / (1 - share))
        optimiser = torch.optim.LBFGS(
            self.linear.parameters(), max_iter=200, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimiser.zero_grad()
            # A mean over faces and a sum over attributes: each is a problem of its own.
            error = functional.binary_cross_entropy_with_logits(
                self(embeddings), wanted, weight, reduction="sum"
            )
            total = error / number + decay / 2 * self.linear.weight.square().sum()
            total.backward()
            return total

        optimiser.step(loss)
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the head with the attributes' names; a WeightsError if the file cannot be."""
        metadata = {"names": list(self.names), "dimensions": self.linear.in_features}
        save_tensors(path, self.state_dict(), metadata, kind=KIND)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AttributeHead:
        """Reads what `save` wrote.

        Raises:
            WeightsError: If the file is missing, damaged, or no such head.
        """
        tensors, metadata = load_tensors(path, kind=KIND)
        head = cls(metadata["dimensions"], metadata["names"])
        fill(head, tensors, f"{path} for a head of {len(head.names)} attributes")
        return head
