"""Restorers turn degraded faces into restored ones: networks of whole faces, and agents.

A restorer is described by a small specification, which the words of a command line are read into
and which can be sent to another process, and built from it once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facehall_env import agents, enhancers
from facehall_env.agents import Agent, Rollout, rollout
from facehall_env.agents.storage import archive_locations, grid_of, load_agent, shipped
from facehall_env.benchmarks.fingerprint import fingerprint
from facehall_env.core import HallucinationCore, prepare_network
from facehall_env.data import Faces, Protocol
from facehall_env.data.resize import resize
from facehall_env.enhancers import Enhancer, OneShot, parameter_count
from facehall_env.enhancers.base import multiply_accumulates, restore_whole
from facehall_env.errors import ConfigurationError
from facehall_env.literals import Border, Precision
from facehall_env.registry import unknown_name
from facehall_env.spec import BICUBIC, check_device
from facehall_env.state import CoreState

LEARNED = {name: name for name in ("static", "qmap", *agents.SB3_ALGORITHMS)} | {"rl": "rl-conv"}
"""Agents that need weights, and the beginnings of the names of the files that the project has."""
ORACLE_BATCH = 8
"""Most faces that the oracle plays at once: it restores many patches of each, and an interrupt
loses a batch."""


class Restorer(ABC):
    """Turns degraded faces into restored ones.

    Attributes:
        name: Name of its row in tables.
        steps: Number of patches of an episode, T; 0 for a network of whole faces.
        weights: Where its weights come from: "auto", names of files, or None if it is untrained.
        most_at_once: Largest number of faces it should be given at once; None without a limit.
        description: What another process can build it from; None if `build` did not make it.
        needs_initial: Whether it needs the up-sampled face, whose making is part of its time.
        networks: All networks that take part.
        provenance: What is known about the weights that restore; of an agent, those that it starts
            from.
    """

    name: str
    steps: int = 0
    weights: str | None = None
    most_at_once: int | None = None
    description: tuple[Spec, Conditions] | None = None
    needs_initial: bool = True
    networks: Sequence[nn.Module]
    provenance: Mapping[str, Any]
    _depends_on: Mapping[str, object]

    @abstractmethod
    def restore(self, faces: Faces, first: int = 0) -> Tensor:
        """Restores N faces: (N, 3, H, W) in [0, 1], on the restorer's device.

        Agents that draw at random do so by ``first``, the number of the first in the test set.
        """

    @property
    def parameters(self) -> int:
        """Number of parameters of all networks that take part."""
        return sum(map(parameter_count, self.networks))

    @cached_property
    def fingerprint(self) -> str | None:
        """Hash of all that its results depend on, computed once; None if that cannot be told."""
        return fingerprint(self._depends_on)

    def from_lr(self, faces: Faces, protocol: Protocol) -> Tensor:
        """Restores faces, up-sampling them first where that is needed: what is timed."""
        if self.needs_initial:
            height, width = faces.hr.shape[2:]
            initial = resize(faces.lr, (height, width), protocol.up).clamp(0, 1)
            faces = faces._replace(initial=initial)
        return self.restore(faces)

    def macs(self, faces: Faces) -> int:
        """Multiply-accumulates for the first of some faces; see `multiply_accumulates`."""
        return multiply_accumulates(lambda: self.restore(faces.rows(slice(1))))


class WholeFace(Restorer):
    """A network that restores a whole face in one go; None leaves the up-sampled face as it is."""

    def __init__(
        self,
        name: str,
        network: Enhancer | None,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        weights: str | None = "auto",
    ) -> None:
        self.name, self.weights = name, weights
        self.device, self.precision = torch.device(device), precision
        if network is not None:
            if not isinstance(network, OneShot):
                network.whole_face()  # Refuses networks that work on patches only.
            network = prepare_network(network, self.device, precision)
        self.network = network
        self.needs_initial = not (isinstance(network, OneShot) and network.takes == "lr")
        self.networks = [] if network is None else [network]
        self.provenance = {} if network is None else network.provenance
        self._depends_on = {"network": network, "as": (precision, self.device.type)}

    @torch.no_grad()
    def restore(self, faces: Faces, first: int = 0) -> Tensor:
        """See `Restorer.restore`."""
        faces = faces.to(self.device)
        if self.network is None:
            return faces.initial
        return restore_whole(self.network, faces.initial, faces.lr).clamp(0, 1)


@dataclass(eq=False)
class PatchByPatch(Restorer):
    """An agent that chooses patches, and the process that restores them.

    Attributes:
        core: The process, whose episodes have T patches.
        make_agent: Builds the agent for the batch that starts with the face of that number.
        agent: Name of the agent.
        seed: Seed of an agent that draws at random.
        enhancer_weights: "auto", the name of the enhancer's file, or None if it is untrained.
        agent_weights: Name of the agent's file, if it is a learned one.
        initial: Name or file of the network from whose result it starts.
    """

    name: str
    core: HallucinationCore
    make_agent: Callable[[int], Agent]
    agent: str = ""
    seed: int = 0
    enhancer_weights: str | None = "auto"
    agent_weights: str | None = None
    initial: str = BICUBIC

    def __post_init__(self) -> None:
        """Says what it consists of, and how many faces it takes."""
        core, agent = self.core, self.make_agent(0)
        self.steps = core.num_steps
        self.most_at_once = ORACLE_BATCH if self.agent == "oracle" else None
        own = core.enhancer.name if self.enhancer_weights == "auto" else self.enhancer_weights
        files = [str(own), self.agent_weights or self.agent]
        self.weights = ", ".join(files if self.initial == BICUBIC else [*files, self.initial])
        parts = (core.enhancer, core.initial, *vars(agent).values())
        self.networks = [part for part in parts if isinstance(part, nn.Module)]
        self.provenance = (core.initial or core.enhancer).provenance
        self._depends_on = {
            "agent": (agent, self.seed),
            "networks": (core.enhancer, core.initial),
            "episode": (core.geometry, core.num_steps, core.precision, core.device.type),
        }

    def play(
        self, faces: Faces, first: int = 0, on_step: Callable[[CoreState], None] | None = None
    ) -> Rollout:
        """Plays one episode of each face; see `facehall_env.agents.rollout`."""
        return rollout(self.core, self.make_agent(first), faces, on_step=on_step)

    def restore(self, faces: Faces, first: int = 0) -> Tensor:
        """See `Restorer.restore`."""
        return self.play(faces, first).state.image


@dataclass(frozen=True)
class Conditions:
    """What all restorers of a table have in common.

    Attributes:
        image_size: Height and width of the faces in pixels.
        scale: Factor between low and high resolution.
        dataset: What weights that come with the project should be trained on.
        device: Where to compute.
        precision: ``"fp32"`` or ``"bf16"``.
        trust_pickle: Whether archives of Stable-Baselines3 may be read, which can run any code.
    """

    image_size: tuple[int, int]
    scale: int
    dataset: str = "lfw"
    device: str = "cpu"
    precision: Precision = "fp32"
    trust_pickle: bool = False


@dataclass(frozen=True)
class NetworkSpec:
    """Which network, with which weights.

    Attributes:
        name: Its registered name; None for whatever the file holds.
        weights: ``"auto"`` for those that come with the project, a file, or None for none.
    """

    name: str | None = None
    weights: str | None = "auto"

    @classmethod
    def of(cls, word: str | None) -> NetworkSpec | None:
        """The network that a word names or whose file it is; None for ``"bicubic"``."""
        if word is None or word == BICUBIC:
            return None
        if Path(word).is_file() or Path(word).suffix == ".safetensors":
            return cls(weights=word)
        return cls(word)

    @property
    def file(self) -> str | None:
        """Name of the file with its weights, "auto", or None if it is untrained."""
        return None if self.weights is None else Path(self.weights).name

    def load(self, place: Conditions) -> Enhancer:
        """Builds the network.

        Raises:
            FacehallError: If there is none of that name, or its weights are missing, damaged, or
                made for something else, such as another scale.
        """
        if self.name is None:
            network = enhancers.load(str(self.weights))
        else:
            network = enhancers.make(
                self.name, scale=place.scale, weights=self.weights, dataset=place.dataset
            )
        if network.scale != place.scale:
            raise ConfigurationError(
                f"The network {self.file} is made for scale {network.scale}, but the faces have "
                f"scale {place.scale}: give weights for that scale."
            )
        return network


Load = Callable[[NetworkSpec], Enhancer]


@dataclass(frozen=True)
class WholeFaceSpec:
    """Describes a `WholeFace`.

    Attributes:
        name: Name of its row.
        network: None leaves the up-sampled face as it is.
    """

    name: str
    network: NetworkSpec | None = None

    def build(self, place: Conditions, load: Load) -> WholeFace:
        """Builds it, or raises a `FacehallError`; ``load`` loads its network."""
        network = None if self.network is None else load(self.network)
        weights = "auto" if self.network is None else self.network.file
        return WholeFace(self.name, network, check_device(place.device), place.precision, weights)


@dataclass(frozen=True)
class PatchByPatchSpec:
    """Describes a `PatchByPatch`.

    Attributes:
        name: Name of its row.
        agent: Name of an agent, or a file with a learned one.
        enhancer: Restores the patches; None leaves them as they are.
        initial: Restores the faces from which episodes start; None starts from up-sampled ones.
        steps: Patches in an episode, T.
        seed: Seed of an agent that draws at random.
        border: Patches centred anywhere, or kept inside the image.
        action_stride: Spacing in pixels of the locations; None for the learned agent's own, which
            is 1 for others.
        action_offset: On which row and column of its cell a patch is centred; None for the middle.
        agent_settings: Further settings of the agent, by name.
    """

    name: str
    agent: str
    enhancer: NetworkSpec | None = None
    initial: NetworkSpec | None = None
    steps: int = 25
    seed: int = 0
    border: Border = "centre"
    action_stride: int | None = None
    action_offset: int | None = None
    agent_settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self, place: Conditions, load: Load) -> PatchByPatch:
        """Builds it, or raises a `FacehallError`; ``load`` loads its networks."""
        enhancer = load(self.enhancer or NetworkSpec(BICUBIC))
        initial = None if self.initial is None else load(self.initial)
        core_with = partial(
            HallucinationCore,
            enhancer,
            image_size=place.image_size,
            border=self.border,
            num_steps=self.steps,
            device=check_device(place.device),
            precision=place.precision,
            initial=initial,
        )
        path = None if self.agent in agents.available() else Path(self.agent)
        if self.agent in LEARNED:
            path = shipped(LEARNED[self.agent], core_with(), place.dataset)
        stride, offset = self.action_stride or 1, self.action_offset
        if path is not None and self.action_stride is None:
            stride, trained = _trained_grid(path, place.image_size)
            offset = offset if trained is None else trained
        core = core_with(action_stride=stride, action_offset=offset)
        agent: Agent | None = None
        if path is not None:
            agent = agents.load(path, core, place.trust_pickle)
        elif self.agent != "random":
            agent = agents.make(self.agent, core, **self.agent_settings)

        def make_agent(first: int) -> Agent:
            # Seeded for each batch, so that it draws the same wherever an earlier run stopped, and
            # far apart, so that the batches of one seed are not those of the next.
            seed = self.seed * 1_000_003 + first
            return agents.make("random", core, seed=seed) if agent is None else agent

        begun = BICUBIC if self.initial is None else self.initial.name or str(self.initial.file)
        return PatchByPatch(
            self.name,
            core,
            make_agent,
            agent=self.agent if path is None else path.stem,
            seed=self.seed if self.agent == "random" else 0,
            enhancer_weights="auto" if self.enhancer is None else self.enhancer.file,
            agent_weights=None if path is None else path.name,
            initial=begun,
        )


Spec = WholeFaceSpec | PatchByPatchSpec
"""A description of a restorer, which can be pickled."""


def build(specs: Iterable[Spec], place: Conditions) -> list[Restorer]:
    """Builds restorers, which share the networks that they have in common.

    Raises:
        FacehallError: If two have the same name, or one cannot be built; says why.
    """
    specs = list(specs)
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise ConfigurationError(
            f"The rows would be called {', '.join(names)}: give each one a name of its own, as in "
            "NAME=PATH."
        )
    load = cache(partial(NetworkSpec.load, place=place))
    restorers: list[Restorer] = [spec.build(place, load) for spec in specs]
    for restorer, spec in zip(restorers, specs, strict=True):
        restorer.description = (spec, place)
    return restorers


def parse_model(word: str) -> WholeFaceSpec:
    """Reads ``NAME``, ``PATH``, ``NAME=PATH`` or ``NAME=None``.

    >>> parse_model("sparnet=None")
    WholeFaceSpec(name='sparnet', network=NetworkSpec(name='sparnet', weights=None))
    """
    name, separator, weights = word.partition("=")
    if not separator:
        network = NetworkSpec.of(word)
        named = network is not None and network.name is None
        return WholeFaceSpec(Path(word).stem if named else word, network)
    if weights == "None":
        return WholeFaceSpec(name, NetworkSpec(name, None))
    registered = name if name in enhancers.available() else None
    return WholeFaceSpec(name, NetworkSpec(registered, weights))


def parse_agent(word: str, action_stride: int = 1, **settings: Any) -> PatchByPatchSpec:
    """Reads ``ROW=ENHANCER,AGENT`` or ``ROW=ENHANCER,AGENT,INITIAL``.

    Args:
        word: What was typed.
        action_stride: Spacing in pixels of the locations of agents that learn nothing.
        **settings: Other fields of the description, such as ``steps``.

    Raises:
        ConfigurationError: If the word is of another form.
        UnknownNameError: If the agent is neither a file nor a name.
    """
    name, separator, rest = word.partition("=")
    words = rest.split(",")
    if not (name and separator and len(words) in (2, 3) and all(words)):
        raise ConfigurationError(
            f"--agents {word!r} is not ROW=ENHANCER,AGENT or ROW=ENHANCER,AGENT,INITIAL: give the "
            "row's name, the enhancer's name or file, and the name or file of an agent."
        )
    enhancer, agent, initial = (*words, BICUBIC)[:3]
    check_agent(agent)
    learned = agent in LEARNED or agent not in agents.available()
    stride = None if learned else action_stride
    networks = NetworkSpec.of(enhancer), NetworkSpec.of(initial)
    return PatchByPatchSpec(name, agent, *networks, action_stride=stride, **settings)


def check_agent(word: str) -> None:
    """Refuses, by an `UnknownNameError`, what is neither the name of an agent nor a file."""
    if word not in agents.available() and Path(word).suffix not in (".safetensors", ".zip"):
        raise unknown_name("agent", word, agents.available())


def _trained_grid(path: Path, image_size: tuple[int, int]) -> tuple[int, int | None]:
    """Stride and offset of the locations of the agent in a file; no offset if it does not say."""
    if path.suffix == ".zip":
        # Counted without unpickling; what does not fit is refused when the agent is loaded.
        locations = archive_locations(path) or 1
        return max(1, math.isqrt(math.prod(image_size) // locations)), None
    return grid_of(load_agent(path)[1]["geometry"])
