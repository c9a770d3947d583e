"""The rewards of IPFH (section III-B2): close to the truth patch by patch, and the same person."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from facehall_env import patches
from facehall_env.data.faces import UNKNOWN
from facehall_env.errors import ConfigurationError
from facehall_env.recognition.cognition import Cognition, load_cognition
from facehall_env.registry import unknown_name
from facehall_env.rewards.base import Reward
from facehall_env.training.dual_consistency import DualConsistency

if TYPE_CHECKING:
    from facehall_env.state import CoreState

COGNITION_VARIABLE = "FACEHALL_COGNITION"
"""Names the file of the cognition network for rewards that are asked for by name."""
PATCH_TERMS = {
    "ipfh_patch_mse_hr": "mse_hr",
    "ipfh_patch_texture_hr": "texture_hr",
    "ipfh_patch_mse_lr": "mse_lr",
    "ipfh_patch_texture_lr": "texture_lr",
}
"""Terms of the short-term reward, and what `DualConsistency` calls them."""
FACE_TERMS = ("ipfh_face_mse", "ipfh_face_texture", "ipfh_feature", "ipfh_identity")
"""Terms of the long-term reward."""
TERMS = (*PATCH_TERMS, *FACE_TERMS)
WITHOUT_NETWORK = ("ipfh_patch_mse_hr", "ipfh_patch_mse_lr", "ipfh_face_mse")


class IPFHReward(Reward):
    """Minus the losses of each restored patch, and at the end minus those of the face.

    Steps t < T are paid for the patch just restored (eq. 10): minus its mean squared error and
    its texture loss, at the high resolution and downsampled again. The last step is paid for the
    face instead (eq. 12 and 15): minus its mean squared error and texture loss, the distance of
    its features from the truth's (eq. 13), and how little it is taken for the right person (eq.
    14). What a patch holds outside of the image does not count. The paper gives no weights of the
    terms; they are 1 unless ``weights`` says otherwise, so that every row of Table IX is a few
    zeros.

    Args:
        cognition: The cognition network, or its file as `facehall train cognition` writes it; by
            default the file that the environment variable ``FACEHALL_COGNITION`` names. A network
            is moved to where the faces are. Terms of errors alone do without.
        weights: What the terms are multiplied by, by their names in `TERMS`; 1 for those not
            named. A term of weight 0 is not computed.
        consistency: Compares patches and faces; by default `DualConsistency` at the episodes'
            scale with the cognition network's textures.

    Raises:
        UnknownNameError: If ``weights`` names no term.
        ConfigurationError: If all weights are 0.

    >>> reward = IPFHReward(weights=dict.fromkeys(TERMS, 0) | {"ipfh_patch_mse_hr": 2})
    >>> str(reward)
    '2*ipfh_patch_mse_hr'
    """

    def __init__(
        self,
        cognition: Cognition | str | os.PathLike[str] | None = None,
        weights: Mapping[str, float] | None = None,
        *,
        consistency: DualConsistency | None = None,
    ) -> None:
        for name in weights or ():
            if name not in TERMS:
                raise unknown_name("term of the reward", name, TERMS)
        every = {**dict.fromkeys(TERMS, 1.0), **(weights or {})}
        self.weights = {name: float(weight) for name, weight in every.items() if weight}
        if not self.weights:
            raise ConfigurationError(
                "All weights of the IPFH reward are 0: leave one term at least."
            )
        self._cognition = cognition
        self._consistency = consistency
        self._class_of: Tensor | None = None

    @classmethod
    def only(cls, *names: str) -> IPFHReward:
        """The reward of some terms alone, with the cognition network that is there by default."""
        return cls(weights={name: float(name in names) for name in TERMS})

    @property
    def network_terms(self) -> tuple[str, ...]:
        """The terms that take a cognition network."""
        return tuple(name for name in self.weights if name not in WITHOUT_NETWORK)

    def for_people(self, people: Sequence[str] | None) -> Reward:
        """The same reward, with the network's own number for each of a dataset's people.

        Args:
            people: See :meth:`Reward.for_people`.

        Raises:
            ConfigurationError: If there is no cognition network for a term that needs one, or the
                term ``ipfh_identity`` knows none of the people.
            WeightsError: If the network's file is missing or damaged.
        """
        if not self.network_terms:
            return self
        cognition = self.cognition()
        if "ipfh_identity" not in self.weights:
            return self
        own = copy.copy(self)
        own._class_of = _classes_of(people, cognition)
        return own

    def cognition(self, device: torch.device | None = None) -> Cognition:
        """The cognition network.

        Args:
            device: Where to have it; by default where it is, or on the CPU if it is in a file.

        Raises:
            ConfigurationError: If there is none.
            WeightsError: If its file is missing or damaged.
        """
        given = self._cognition or os.environ.get(COGNITION_VARIABLE)
        if not given:
            raise ConfigurationError(
                f"The reward's terms {', '.join(self.network_terms)} need a cognition network: "
                "train one with `facehall train cognition`, and give its file to "
                f"IPFHReward(cognition=...) or name it in the environment variable "
                f"{COGNITION_VARIABLE}; or ask for other terms ({', '.join(WITHOUT_NETWORK)} need "
                "none)."
            )
        if isinstance(given, Cognition):
            return given if device is None else given.to(device)
        path = Path(given)
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        return _loaded(path, changed, device or torch.device("cpu"))

    def labels(self, state: CoreState) -> Tensor:
        """(N,) int64, the network's class of each face; -1 for people it was not trained with.

        Raises:
            ConfigurationError: If nobody knows who is on the faces, or :meth:`for_people` was
                never asked.
        """
        if state.identity is None:
            raise _no_identities()
        if self._class_of is None:
            raise ConfigurationError(
                "The reward's term 'ipfh_identity' does not know yet whom the numbers on the faces "
                "mean: give the core reward.for_people(dataset.people), as EpisodeSpec.build does."
            )
        classes = self._class_of.to(state.identity.device)
        return classes[state.identity].where(state.identity != UNKNOWN, UNKNOWN)

    @torch.no_grad()
    def terms(self, before: CoreState, after: CoreState, done: Tensor) -> dict[str, Tensor]:
        """Each term of a weight other than 0; see :meth:`Reward.terms`."""
        zeros = torch.zeros_like(after.mse)
        values = {name: zeros.clone() for name in self.weights}
        # Only the rows that are paid for it: a recogniser on whole faces costs far more than it
        # takes to wait until the device says which episodes are over.
        for paid, losses in ((~done, self._patch_losses), (done, self._face_losses)):
            rows = paid.nonzero()[:, 0]
            if len(rows):
                state = after if len(rows) == after.num_envs else after.rows(rows)
                for name, loss in losses(state).items():
                    values[name][rows] = -self.weights[name] * loss.double()
        return values

    def __str__(self) -> str:
        if self.weights == dict.fromkeys(TERMS, 1.0):
            return "ipfh"
        return " + ".join(
            name if weight == 1 else f"{weight:g}*{name}" for name, weight in self.weights.items()
        )

    def _patch_losses(self, state: CoreState) -> dict[str, Tensor]:
        """(N,) losses of the patches restored last."""
        wanted = {name: loss for name, loss in PATCH_TERMS.items() if name in self.weights}
        if not wanted:
            return {}
        height, width = state.patch.shape[-2:]
        corner = patches.corner_of(state.location, (height, width))
        image_size = (state.hr.shape[2], state.hr.shape[3])
        losses = self._compare(state).terms(
            state.patch,
            patches.crop(state.hr, corner, (height, width)),
            inside=patches.inside_mask(corner, (height, width), image_size),
            names=wanted.values(),
        )
        return {name: losses[loss] for name, loss in wanted.items()}

    def _face_losses(self, state: CoreState) -> dict[str, Tensor]:
        """(N,) losses of the faces."""
        losses: dict[str, Callable[[CoreState], Tensor]] = {
            "ipfh_face_mse": lambda state: state.mse,
            "ipfh_face_texture": self._face_texture,
            "ipfh_feature": self._feature_loss,
            "ipfh_identity": self._identity_loss,
        }
        return {name: loss(state) for name, loss in losses.items() if name in self.weights}

    def _face_texture(self, state: CoreState) -> Tensor:
        name = "texture_hr"
        return self._compare(state).terms(state.image, state.hr, names=[name])[name]

    def _feature_loss(self, state: CoreState) -> Tensor:
        return self.cognition(state.image.device).feature_loss(state.image, state.hr)

    def _identity_loss(self, state: CoreState) -> Tensor:
        """0 for people whom the network does not know."""
        label = self.labels(state)
        known = (label != UNKNOWN).nonzero()[:, 0]
        loss = torch.zeros_like(state.mse)
        if len(known):
            cognition = self.cognition(state.image.device)
            loss[known] = cognition.identity_loss(state.image[known], label[known]).double()
        return loss

    def _compare(self, state: CoreState) -> DualConsistency:
        if self._consistency is not None:
            return self._consistency.to(state.image.device)
        texture = any("texture" in name for name in self.weights)
        return DualConsistency(
            state.hr.shape[-1] // state.lr.shape[-1],
            texture=self.cognition(state.image.device).recogniser if texture else None,
        )


@lru_cache(maxsize=2)
def _loaded(path: Path, changed: int, device: torch.device) -> Cognition:
    """The network in a file, once for all terms of a reward that share it."""
    return load_cognition(path).to(device)


def _classes_of(people: Sequence[str] | None, cognition: Cognition) -> Tensor:
    """(P,) int64, the network's class of each of the people, -1 where there is none."""
    if not people:
        raise _no_identities()
    classes = cognition.labels(people)
    if not bool((classes != UNKNOWN).any()):
        raise ConfigurationError(
            f"The cognition network was trained with {len(cognition.people):,} people, and none of "
            f"the dataset's {len(people):,} is one of them: use the dataset and split that it was "
            "trained on, or give the term 'ipfh_identity' the weight 0."
        )
    return classes


def _no_identities() -> ConfigurationError:
    return ConfigurationError(
        "The reward's term 'ipfh_identity' asks who is on a face, and the dataset does not know: "
        "use one with identities, such as 'lfw', or give the term the weight 0."
    )


ipfh_patch_mse_hr = partial(IPFHReward.only, "ipfh_patch_mse_hr")
ipfh_patch_texture_hr = partial(IPFHReward.only, "ipfh_patch_texture_hr")
ipfh_patch_mse_lr = partial(IPFHReward.only, "ipfh_patch_mse_lr")
ipfh_patch_texture_lr = partial(IPFHReward.only, "ipfh_patch_texture_lr")
ipfh_face_mse = partial(IPFHReward.only, "ipfh_face_mse")
ipfh_face_texture = partial(IPFHReward.only, "ipfh_face_texture")
ipfh_feature = partial(IPFHReward.only, "ipfh_feature")
ipfh_identity = partial(IPFHReward.only, "ipfh_identity")
