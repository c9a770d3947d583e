"""A-softmax: a softmax over people whose own one has to be right by a margin of the angle.

Liu et al., "SphereFace: Deep Hypersphere Embedding for Face Recognition", CVPR 2017; eq. 14 of
the IPFH paper.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env.enhancers.layers.checks import check_counts
from facehall_env.errors import ConfigurationError

MARGIN = 1.5
"""m in the IPFH paper, section III-F."""
FIRST_ANNEALING, LAST_ANNEALING, ANNEALING_RATE = 1500.0, 5.0, 0.1
_NEARLY_ONE = 1 - 1e-6
"""Largest cosine whose angle is taken: the slope of the arc cosine at 1 is infinite."""


def psi(theta: Tensor, margin: float) -> Tensor:
    """ψ(θ) = (-1)^k cos(mθ) - 2k with k = floor(mθ / π): a cosine that falls m times as far.

    ``theta`` holds angles in [0, π], ``margin`` is m; with m = 1 it is the cosine itself. It falls
    from 1 to (-1)^k cos(mπ) - 2k at π without a step or a rise, for any m of 1 or more.

    >>> psi(torch.tensor([0.0, math.pi / 2, math.pi]), margin=2).round(decimals=4)
    tensor([ 1., -1., -3.])
    """
    k = (margin * theta.detach() / math.pi).floor()
    return (1 - 2 * (k % 2)) * torch.cos(margin * theta) - 2 * k


class AngularSoftmax(nn.Module):
    """The last layer and the loss with which a recogniser is trained.

    Each person has a direction w_j; an embedding x is compared with it by the angle θ_j between
    both, whatever the length of w_j. In training, the margin comes slowly: the logit of the right
    person is |x| (λ cos θ + ψ(θ)) / (1 + λ), and λ falls as max(5, 1500 / (1 + 0.1 n)) with the
    number n of updates, which :meth:`advance` counts.

    Args:
        embedding_size: D.
        classes: C, people to tell apart.
        margin: m, at least 1.

    Attributes:
        weight: (D, C), of any length in each column.

    Raises:
        ConfigurationError: If a setting is out of its range.

    >>> head = AngularSoftmax(2, 2, margin=1)
    >>> _ = head.weight.data.copy_(torch.eye(2))
    >>> head.logits(torch.tensor([[3.0, 4.0]])).tolist()
    [[3.0, 4.0]]
    """

    iteration: Tensor

    def __init__(self, embedding_size: int, classes: int, margin: float = MARGIN) -> None:
        super().__init__()
        check_counts("angular softmax", embedding_size=embedding_size, classes=classes)
        if not 1 <= margin < math.inf:
            raise ConfigurationError(f"margin={margin}: give at least 1, which is no margin.")
        self.margin = margin
        self.embedding_size = embedding_size
        self.classes = classes
        weight = functional.normalize(torch.randn(embedding_size, classes), dim=0)
        self.weight = nn.Parameter(weight)
        self.register_buffer("iteration", torch.zeros((), dtype=torch.int64))

    @property
    def annealing(self) -> float:
        """λ of the next update."""
        return max(LAST_ANNEALING, FIRST_ANNEALING / (1 + ANNEALING_RATE * int(self.iteration)))

    def advance(self) -> None:
        """Counts an update."""
        self.iteration += 1

    def cosines(self, embedding: Tensor) -> Tensor:
        """Cosines of the angles between embeddings (N, D) and people, (N, C)."""
        return functional.normalize(embedding) @ functional.normalize(self.weight, dim=0)

    def logits(self, embedding: Tensor) -> Tensor:
        """|x| cos θ, without a margin, as faces are classified: (N, D) to (N, C)."""
        return embedding @ functional.normalize(self.weight, dim=0)

    def losses(self, embedding: Tensor, label: Tensor, annealing: float = 0.0) -> Tensor:
        """The loss (N,) of embeddings x (N, D), differentiable in them and in the weights.

        ``label``, (N,) int64, numbers the person on each; with λ = 0 it is the loss of eq. 14.

        Raises:
            ConfigurationError: If there are no such people, or not one for each embedding.
        """
        self._check(embedding, label)
        cosine = self.cosines(embedding)
        own = cosine.gather(1, label[:, None]).clamp(-_NEARLY_ONE, _NEARLY_ONE)
        target = (annealing * own + psi(own.arccos(), self.margin)) / (1 + annealing)
        length = embedding.norm(dim=1, keepdim=True)
        logits = length * cosine.scatter(1, label[:, None], target)
        return functional.cross_entropy(logits, label, reduction="none")

    def forward(self, embedding: Tensor, label: Tensor) -> Tensor:
        """The mean loss of embeddings (N, D) of people (N,) with the current λ, a scalar."""
        return self.losses(embedding, label, self.annealing).mean()

    def _check(self, embedding: Tensor, label: Tensor) -> None:
        if embedding.ndim != 2 or embedding.shape[1] != self.embedding_size:
            raise ConfigurationError(
                f"The angular softmax got embeddings of shape {tuple(embedding.shape)}, expected "
                f"(N, {self.embedding_size}): use the recogniser that it was trained with."
            )
        if label.shape != embedding.shape[:1] or label.is_floating_point():
            raise ConfigurationError(
                f"The angular softmax got labels of shape {tuple(label.shape)} and type "
                f"{label.dtype}, expected a whole number for each of {len(embedding)} faces."
            )
        # Indexing with it would stop a GPU for good.
        if bool(((label < 0) | (label >= self.classes)).any()):
            raise ConfigurationError(
                f"The angular softmax got people from {int(label.min())} to {int(label.max())}, "
                f"and knows 0 to {self.classes - 1}: an identity loss needs faces of people whom "
                "the recogniser was trained with."
            )
