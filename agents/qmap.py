"""QMap: what restoring the patch at any location would win, for all locations at once.

The return of an episode is the sum of the gains of its steps, and while an agent is trained the
truth is there: the gain of *any* location can be measured by restoring the patch there without
pasting it. So there is no need to learn from sampled returns. A fully convolutional network looks
at the face and predicts the gain at every location; the agent goes where it expects most.

    Q(s, a) = gain(s, a) + gamma * E[max over a' of Q(s', a')]

With gamma = 0 that is a regression of measured gains. With a larger gamma a second head predicts
the discounted rest, by double Q-learning on the steps that were taken.

What a patch wins depends on the truth linearly: |I - truth|^2 - |R - truth|^2, of a face I that
becomes R, is (I - R)(I + R - 2 truth). So the expected gain needs no more of the truth than its
expectation, and that is what a network trained to restore whole faces with the least squared error
estimates. Such a network is the agent's *guess*: the gains by it are where the agent starts from,
and what it learns is by how much they are wrong. Learning is off-policy: the
states come from the agent's own episodes, are kept in a replay memory and used many times.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env.agents.base import AGENTS, Agent, AgentState, Observation
from facehall_env.agents.gains import (
    check_lookahead,
    check_sees_enough,
    errors_by_guess,
    gain_map,
    look_ahead,
    mse_after_each,
    restores_whole_faces,
)
from facehall_env.agents.policies import location_weights, planes
from facehall_env.agents.saliency import gradient_magnitude
from facehall_env.agents.storage import check_geometry, load_agent, save_agent, shipped
from facehall_env.checkpoints import (
    fill,
    pack_optimizer,
    under_prefix,
    unpack_optimizer,
    with_prefix,
)
from facehall_env.core import CoreState, HallucinationCore, mean_squared_error
from facehall_env.data.faces import Faces
from facehall_env.enhancers import Enhancer
from facehall_env.enhancers.weights import build, describe
from facehall_env.enhancers.weights import load as load_enhancer
from facehall_env.errors import ConfigurationError
from facehall_env.observations import observe
from facehall_env.patches import PatchGeometry

CELL = 4
"""Pixels a side of one cell of the network's map."""
KEYS = ("image", "lr", "action_history", "step")
PLANES, PLANES_AHEAD, PLANES_GUESS = 11, 4, 2
AHEAD = "ahead"
"""Under this name an observation has what the enhancer would change, (N, 3, H, W)."""
BY_GUESS = "by_guess"
"""Under this name, the error of each pixel and the gain there, by the guess, (N, 2, H, W)."""
MOST_VISITS = 4
GOOD_TEMPERATURE = 0.3
"""Of the tried locations that seem good, in units of the typical gain."""
SMALLEST_SCALE = 1e-4
"""Of the gains of a step, as a share of the first error: less than that nobody can see."""


class GainNetwork(nn.Module):
    """From an observation to the expected gain at every location.

    The face, what has changed of it since the start, its detail and how often each pixel has been
    visited become a map with one cell for 4x4 pixels. One channel of the output is a density: the
    gain that each cell would contribute. A location's gain is the density's sum over exactly the
    pixels of its patch, plus a correction from the features under the patch and at its centre
    (the enhancer sees less at a patch's border than on a whole face). Gains are shares of the
    first error, which the network does not know, so only their order within a face is exact.

    Args:
        geometry: The locations to judge.
        num_steps: Length of the episodes.
        width: Channels of the map.
        future: Whether to predict the rest of the return, too.
        lookahead: Whether to look at what the enhancer would make of the whole face.
        guess: Whether to start from the gains by a guess of the truth; needs ``lookahead``.
    """

    row_patch: Tensor
    row_centre: Tensor
    column_patch: Tensor
    column_centre: Tensor
    scale: Tensor

    def __init__(
        self,
        geometry: PatchGeometry,
        num_steps: int,
        width: int = 32,
        future: bool = False,
        lookahead: bool = False,
        guess: bool = False,
    ) -> None:
        super().__init__()
        if guess and not lookahead:
            raise ConfigurationError(
                "The gains by a guess of the truth are those of what the enhancer would change: "
                "switch lookahead on, too."
            )
        height, width_pixels = geometry.image_size
        if height % (2 * CELL) or width_pixels % (2 * CELL):
            raise ConfigurationError(
                f"The qmap network halves a map of cells of {CELL}x{CELL} pixels, got faces of "
                f"{height}x{width_pixels}: use sides that are multiples of {2 * CELL}."
            )
        self.geometry = geometry
        self.num_steps = num_steps
        self.lookahead = lookahead
        self.guess = guess
        self.config: dict[str, Any] = {
            "num_steps": num_steps,
            "width": width,
            "future": future,
            "lookahead": lookahead,
            "guess": guess,
        }
        planes_seen = PLANES + PLANES_AHEAD * lookahead + PLANES_GUESS * guess
        self.stem = nn.Conv2d(planes_seen, width, CELL, stride=CELL)
        self.position = nn.Parameter(torch.zeros(width, height // CELL, width_pixels // CELL))
        self.step = nn.Embedding(num_steps, width)
        self.fine = nn.Sequential(ResidualBlock(width), ResidualBlock(width))
        self.coarse = nn.Sequential(
            nn.Conv2d(width, 2 * width, 2, stride=2),
            ResidualBlock(2 * width),
            ResidualBlock(2 * width),
            nn.ConvTranspose2d(2 * width, width, 2, stride=2),
        )
        self.joined = ResidualBlock(width)
        self.density = nn.Conv2d(width, 1, 1)
        self.under_patch = nn.Conv2d(width, width, 1, bias=False)
        self.at_centre = nn.Conv2d(width, width, 1)
        self.correction = nn.Conv2d(width, 1, 1)
        self.rest = nn.Conv2d(width, 1, 1) if future else None
        self.trust = nn.Parameter(torch.ones(())) if guess else None
        for module in (self.density, self.correction, self.rest):
            if module is not None:  # begin by expecting nothing
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # they have one
        nn.init.normal_(self.step.weight, std=0.1)
        self.register_buffer("scale", torch.ones(num_steps))
        for axis, label in enumerate(("row", "column")):
            patch, centre = location_weights(geometry, axis, CELL)
            self.register_buffer(f"{label}_patch", patch, persistent=False)
            self.register_buffer(f"{label}_centre", centre, persistent=False)

    def forward(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Judges all locations of N faces.

        Args:
            observation: ``image``, ``lr``, ``action_history`` and ``step``, batched; with
                lookahead also ``ahead``, from :func:`facehall_env.agents.gains.look_ahead`, with
                a guess ``by_guess``, from :func:`facehall_env.agents.gains.errors_by_guess`.

        Returns:
            Gains, the discounted rest of the return after each, and the gains without the
            correction, all (N, num_locations): shares of the first error, in units of ``scale`` at
            the face's step.
        """
        cells = self.features(observation)
        density = self.density(cells)
        if self.trust is not None:
            density = density + self.trust * self.density_by_guess(observation)
        inside = self.sums(density)
        patch = self.row_patch @ self.under_patch(cells) @ self.column_patch.mT
        centre = self.row_centre @ self.at_centre(cells) @ self.column_centre.mT
        judged = functional.relu(patch + centre)
        gain = inside + self.correction(judged)
        rest = torch.zeros_like(gain) if self.rest is None else self.rest(judged)
        return gain.flatten(1), rest.flatten(1), inside.flatten(1)

    def density_by_guess(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The gain of a patch full of each cell, by the guess, (N, 1, H / 4, W / 4)."""
        gain = observation[BY_GUESS][:, 1:].float()
        share = math.prod(self.geometry.patch_size) / math.prod(self.geometry.image_size)
        unit = self.scale[self.steps_taken(observation)][:, None, None, None]
        return functional.avg_pool2d(gain, CELL) * share / unit

    def sums(self, density: Tensor) -> Tensor:
        """Mean of a map (..., H / 4, W / 4) over each patch; what lies outside counts as zero."""
        sums: Tensor = self.row_patch @ density @ self.column_patch.mT
        return sums

    def features(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The map, (N, width, H / 4, W / 4)."""
        step = self.steps_taken(observation)
        seen = self.stem(self.look(observation)) + self.step(step)[:, :, None, None]
        cells = self.fine(functional.relu(seen + self.position))
        cells = self.joined(cells + self.coarse(cells))
        return functional.relu(cells)

    def look(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The planes that the network sees, (N, PLANES, H, W)."""
        image, low = planes(observation["image"]), planes(observation["lr"])
        first = functional.interpolate(
            low, size=image.shape[-2:], mode="bicubic", align_corners=False
        )
        visits = self.visits(observation["action_history"])
        detail = 10 * gradient_magnitude(image)
        seen = [
            image,
            4 * (image - first),
            detail,
            10 * gradient_magnitude(first),
            detail * (visits == 0),
            (visits == 0).float(),
            visits.clamp_max(MOST_VISITS) / MOST_VISITS,
        ]
        if self.lookahead:
            change = observation[AHEAD].float()
            # The mean of what the truth may be is the best guess of it; an enhancer that gives
            # that mean wins the square of what it changes.
            seen += [10 * change, 10 * change.square().sum(1, keepdim=True).sqrt()]
        if self.guess:
            error, gain = observation[BY_GUESS].float().chunk(2, dim=1)
            unit = self.scale[self.steps_taken(observation)][:, None, None, None]
            seen += [error.clamp_min(0).sqrt(), (gain / (10 * unit)).tanh()]
        return torch.cat(seen, dim=1)

    def visits(self, history: Tensor) -> Tensor:
        """How many patches have covered each pixel, (N, 1, H, W), from actions (N, T), -1 none."""
        number, length = history.shape
        corners = self.geometry.top_left(history.clamp_min(0).reshape(-1))
        masks = []
        for axis, size in enumerate(self.geometry.patch_size):
            pixel = torch.arange(self.geometry.image_size[axis], device=history.device)
            first = corners[:, axis].view(number, length, 1)
            masks.append(((pixel >= first) & (pixel < first + size)).float())
        rows = masks[0] * (history >= 0)[:, :, None]
        return (rows.mT @ masks[1])[:, None]

    def steps_taken(self, observation: Mapping[str, Tensor]) -> Tensor:
        """(N,) int64, the number of patches so far, at most the last step it was trained for."""
        taken = (observation["action_history"] >= 0).sum(1)
        return taken.clamp_max(self.num_steps - 1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, cells: Tensor) -> Tensor:
        """(N, width, H, W) to the same."""
        change: Tensor = self.second(functional.relu(self.first(functional.relu(cells))))
        return cells + change


@AGENTS.register("qmap")
class QMapAgent(Agent):
    """Goes where the network expects most.

    Args:
        core: The environment's core.
        network: Predicts the gains; or None, and ``weights``.
        guess: Restores whole faces, for networks that start from a guess of the truth.
        weights: A file written by :meth:`save`, ``"auto"`` for the agent that comes with the
            project for the core's enhancer and scale, or None for an untrained network.
        dataset: What ``"auto"`` should be trained on.
        temperature: Of the sampled actions (``deterministic=False``), in units of the typical gain.
        seed: Of the sampled actions and of an untrained network.

    Raises:
        ConfigurationError: If a network and weights are both given.
        WeightsError: If the file is missing, damaged, or made for other images or locations.
    """

    name = "qmap"

    def __init__(
        self,
        core: HallucinationCore,
        network: GainNetwork | None = None,
        weights: str | os.PathLike[str] | None = None,
        dataset: str | None = None,
        temperature: float = 0.1,
        seed: int = 0,
        guess: Enhancer | None = None,
    ) -> None:
        super().__init__(core, KEYS)
        self.provenance: dict[str, Any] = {}
        if network is not None and weights is not None:
            raise ConfigurationError(
                "The qmap agent was given a network and weights: give one of them."
            )
        if weights is not None:
            network, guess = self._load(
                core, shipped("qmap", core, dataset) if weights == "auto" else weights
            )
        elif network is None:
            network = untrained_network(core, QMapConfig(seed=seed))
        if network.guess != (guess is not None):
            raise ConfigurationError(
                f"The qmap network is made for guess={network.guess}, but was given "
                f"{'none' if guess is None else guess.name}: give it what it was trained with."
            )
        if network.lookahead:
            check_sees_enough(core)
        self.network = network.to(core.device)
        self.guess = None if guess is None else guess.to(core.device).eval()
        self.core = core
        self.temperature = temperature
        self._generator = torch.Generator(core.device).manual_seed(seed)

    @torch.no_grad()
    def act(
        self, observation: Observation, state: AgentState | None = None, deterministic: bool = True
    ) -> tuple[Tensor, AgentState | None]:
        """The best locations, or sampled ones, (N,); the guess is made once and kept."""
        seen = {key: self.read(observation, key) for key in self.observation_keys}
        if self.guess is not None:
            state = remember_guess(self.guess, seen, state)
        look_closer(self.core, self.network, seen, None if state is None else state["guess"])
        gain, rest, _ = self.network(seen)
        value = gain + rest
        if deterministic:
            return value.argmax(1), state
        chances = (value / self.temperature).softmax(1)
        return torch.multinomial(chances, 1, generator=self._generator)[:, 0], state

    def save(
        self, path: str | os.PathLike[str], provenance: Mapping[str, Any] | None = None
    ) -> None:
        """Writes the network with what it was trained for.

        Args:
            path: File to write, whole or not at all.
            provenance: How it was trained. JSON-serialisable.
        """
        tensors = with_prefix("network", self.network.state_dict())
        config: dict[str, Any] = {"network": self.network.config}
        if self.guess is not None:
            # In half precision: of a guess, three digits are more than enough.
            halves = {name: value.half() for name, value in self.guess.state_dict().items()}
            tensors |= with_prefix("guess", halves)
            config["guess"] = describe(self.guess)
        save_agent(
            path,
            self.name,
            tensors,
            self.geometry,
            config,
            self.provenance if provenance is None else provenance,
        )

    def _load(
        self, core: HallucinationCore, path: str | os.PathLike[str]
    ) -> tuple[GainNetwork, Enhancer | None]:
        tensors, metadata = load_agent(path, self.name)
        check_geometry(path, metadata["geometry"], core.geometry)
        network = GainNetwork(core.geometry, **metadata["config"]["network"])
        fill(network, under_prefix("network", tensors), f"{path} for the qmap network")
        self.provenance = metadata["provenance"]
        guess = None
        if "guess" in metadata["config"]:
            guess = build(metadata["config"]["guess"])
            halves = under_prefix("guess", tensors)
            singles = {name: value.float() for name, value in halves.items()}
            fill(guess, singles, f"{path} for the guess of the qmap agent")
        return network, guess


@torch.no_grad()
def remember_guess(
    guess: Enhancer, observation: Mapping[str, Tensor], state: AgentState | None
) -> AgentState:
    """The guess of each face, made anew where an episode begins.

    Args:
        guess: Restores whole faces.
        observation: ``lr`` and ``step`` of N faces.
        state: What this function returned at the step before; None at first.

    Returns:
        ``guess``, (N, 3, H, W) in [0, 1].
    """
    begins = observation["step"].flatten() == 0
    if state is not None and not bool(begins.any()):
        return state
    rows = torch.ones_like(begins) if state is None else begins
    low = _unit_range(observation["lr"][rows])
    size = [side * guess.scale for side in low.shape[-2:]]
    # With antialias=True torch's kernel is that of the protocols, without it another one.
    initial = functional.interpolate(low, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    made: Tensor = guess.whole_face()(initial).clamp(0, 1)
    if state is None:
        return {"guess": made}
    kept = state["guess"].clone()
    kept[rows] = made
    return {"guess": kept}


@torch.no_grad()
def look_closer(
    core: HallucinationCore,
    network: GainNetwork,
    observation: dict[str, Tensor],
    guess: Tensor | None,
) -> None:
    """Adds to an observation what the network looks at besides."""
    if network.lookahead:
        observation[AHEAD] = look_ahead(core, observation["image"])
    if guess is not None:
        image, low = _unit_range(observation["image"]), _unit_range(observation["lr"])
        observation[BY_GUESS] = errors_by_guess(image, observation[AHEAD], low, guess)


def _unit_range(pixels: Tensor) -> Tensor:
    """8-bit pixels (N, H, W, 3) as faces (N, 3, H, W) in [0, 1]."""
    return planes(pixels) + 0.5


@dataclass
class QMapConfig:
    """Settings of the algorithm."""

    updates: int = 300
    """Updates in all; each takes one step in every environment and learns from the memory."""
    envs: int = 32
    """Faces that are being restored at a time, at different steps of their episodes."""
    tries: int = 8
    """Locations of each face whose gain is measured in a step."""
    gradient_steps: int = 4
    """Batches learned from in an update."""
    learn_batch: int = 32
    """States in such a batch."""
    memory: int = 128
    """Steps of all environments that the replay memory holds."""
    learning_rate: float = 1e-3
    """Highest learning rate; it rises at first and falls to zero along a cosine."""
    gamma: float = 0.0
    """Discount of later rewards; 0 is a regression of the gains."""
    exploration: float = 0.3
    """Share of the steps that go to one of the tried locations at random; falls to a fifth."""
    density_weight: float = 0.5
    """Weight of the error of the uncorrected gains of all locations, which enhancers that restore
    whole faces give away at once."""
    width: int = 32
    """Channels of the network."""
    lookahead: bool = False
    """Show the network what the enhancer would make of the whole face, which costs a restoration of
    it in each step; of enhancers that restore whole faces."""
    guess: str = ""
    """File of an enhancer that restores whole faces with the least squared error: start from the
    gains by its guess of the truth. It is stored with the agent; needs --lookahead."""
    averaging: float = 0.01
    """Share of the network that goes into the averaged one with each batch (Polyak averaging). The
    averaged one is the agent that is kept, and values the next state."""
    grad_clip: float = 1.0
    """Largest norm of the gradient; 0 switches clipping off."""
    seed: int = 0
    """Seed of everything that is drawn."""


def untrained_network(core: HallucinationCore, config: QMapConfig) -> GainNetwork:
    """A network for the core's locations, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = GainNetwork(
            core.geometry,
            core.num_steps,
            width=config.width,
            future=config.gamma > 0,
            lookahead=config.lookahead,
            guess=bool(config.guess),
        )
    return network.to(core.device)


def load_guess(path: str, core: HallucinationCore) -> Enhancer | None:
    """The enhancer whose restored faces are the guess; None for no path.

    Raises:
        WeightsError: If the file is missing, damaged, or holds something else.
        ConfigurationError: If it is made for another scale, or works on patches only.
    """
    if not path:
        return None
    guess = load_enhancer(path)
    if guess.scale != core.scale:
        raise ConfigurationError(
            f"{path} is made for scale {guess.scale}, the environment's is {core.scale}: give the "
            "weights of an enhancer of that scale."
        )
    guess.whole_face()  # Raises a clear error for networks that cannot.
    return guess.to(core.device).eval()


class ReplayMemory:
    """The last steps of all environments; a state's successor lies in the next slot.

    Args:
        slots: Number of steps that it holds.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.written = 0
        self.rows: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Steps that it holds now."""
        return min(self.written, self.slots)

    def add(self, step: Mapping[str, Tensor]) -> None:
        """Writes one step of all environments over the oldest one; tensors (N, ...)."""
        if not self.rows:
            self.rows = {
                key: value.new_empty(self.slots, *value.shape) for key, value in step.items()
            }
        for key, value in step.items():
            self.rows[key][self.written % self.slots] = value
        self.written += 1

    def sample(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """States drawn with replacement, and their successors; needs two steps at least.

        A successor of a state whose ``done`` is set is another episode's first.
        """
        device = self.rows["step"].device
        envs = self.rows["step"].shape[1]
        # The newest step has no successor yet.
        age = torch.randint(1, len(self), (number,), generator=generator, device=device)
        env = torch.randint(envs, (number,), generator=generator, device=device)
        slot = (self.written - 1 - age) % self.slots
        after = (slot + 1) % self.slots
        return self._at(slot, env), self._at(after, env)

    def _at(self, slot: Tensor, env: Tensor) -> dict[str, Tensor]:
        return {key: rows[slot, env] for key, rows in self.rows.items()}


class QMapLearner:
    """Plays, measures and learns; its whole state can be saved and restored between updates.

    Args:
        core: The process. Its reward does not matter: the gain is that of the squared error.
        network: The network to train.
        config: Settings of the algorithm.
        draw: Gives so many new faces; called whenever episodes end.
        guess: Restores whole faces, for networks that start from a guess of the truth.

    Raises:
        ConfigurationError: If the settings are out of range.
    """

    def __init__(
        self,
        core: HallucinationCore,
        network: GainNetwork,
        config: QMapConfig,
        draw: Callable[[int], Faces],
        guess: Enhancer | None = None,
    ) -> None:
        _check(config)
        self.core = core
        self.network = network
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        self.config = config
        self.draw = draw
        self.guess = guess
        self.generator = torch.Generator(core.device).manual_seed(config.seed)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        self.memory = ReplayMemory(config.memory)
        self.updates = 0
        self.has_density = restores_whole_faces(core)
        if network.lookahead:
            check_lookahead(core)
        self._state: CoreState | None = None
        self._guessed: AgentState | None = None

    def update(self) -> dict[str, float]:
        """One step in every environment, and some batches from the memory.

        Returns:
            What is worth logging: losses, and the PSNR of the faces whose episodes ended.
        """
        scores = self._play()
        rate = self.config.learning_rate * self._warm_up() * self._cosine()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if len(self.memory) > 1:
            losses = [self._learn() for _ in range(self.config.gradient_steps)]
            scores["train/loss"] = sum(losses) / len(losses)
        self.updates += 1
        return scores

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on, but the faces."""
        tensors = {
            **with_prefix("network", self.network.state_dict()),
            **with_prefix("averaged", self.averaged.state_dict()),
            **with_prefix("optimizer", pack_optimizer(self.optimizer)[0]),
            **with_prefix("memory", self.memory.rows),
            "generator": self.generator.get_state(),
        }
        if self._state is not None:
            state = vars(self._state)
            present = {name: value for name, value in state.items() if value is not None}
            tensors |= with_prefix("state", present)
        if self._guessed is not None:
            tensors |= with_prefix("guessed", self._guessed)
        return tensors

    def state_metadata(self) -> dict[str, Any]:
        """What belongs to :meth:`state_tensors` and is no tensor; JSON-serialisable."""
        return {"optimizer": pack_optimizer(self.optimizer)[1], "written": self.memory.written}

    def restore(
        self, updates: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
    ) -> None:
        """Puts back what :meth:`state_tensors` and :meth:`state_metadata` gave."""
        device = self.core.device
        self.updates = updates
        self.network.load_state_dict(under_prefix("network", tensors))
        self.averaged.load_state_dict(under_prefix("averaged", tensors))
        unpack_optimizer(self.optimizer, under_prefix("optimizer", tensors), metadata["optimizer"])
        self.generator.set_state(tensors["generator"])
        memory = under_prefix("memory", tensors)
        self.memory.rows = {key: value.to(device) for key, value in memory.items()}
        self.memory.written = metadata["written"]
        state: dict[str, Any] = {"restored": None}
        state |= {key: value.to(device) for key, value in under_prefix("state", tensors).items()}
        self._state = CoreState(**state) if len(state) > 1 else None
        guessed = under_prefix("guessed", tensors)
        self._guessed = {key: value.to(device) for key, value in guessed.items()} or None

    @torch.no_grad()
    def _play(self) -> dict[str, float]:
        """One step of all episodes, with what there is to learn from it written to the memory."""
        core = self.core
        state = self._spread_episodes() if self._state is None else self._state
        observation = observe(core, state, KEYS)
        if self.guess is not None:
            self._guessed = remember_guess(self.guess, observation, self._guessed)
        guess = None if self._guessed is None else self._guessed["guess"]
        look_closer(core, self.network, observation, guess)
        tried = self._tries(observation)
        first_error = mean_squared_error(state.initial, state.hr)
        gains = (state.mse[:, None] - mse_after_each(core, state, tried)) / first_error[:, None]
        self._follow(state.step, gains)
        explore = self._random(len(tried)) < self._exploration()
        other = torch.randint(
            tried.shape[1], (len(tried),), generator=self.generator, device=core.device
        )
        choice = other.where(explore, 0)[:, None]
        action = tried.gather(1, choice)[:, 0]
        after, _, done = core.step(state, action)
        step = {
            **observation,
            "tried": tried,
            "gains": gains.float(),
            "choice": choice[:, 0],
            "done": done,
        }
        if self.has_density:
            step["density"] = self._density(state, first_error, observation.get(AHEAD))
        self.memory.add(step)
        scores = {"train/gain": gains.gather(1, choice).mean().item()}
        if bool(done.any()):
            scores["train/psnr"] = after.psnr[done].mean().item()
            rows = done.nonzero()[:, 0]
            after = core.reset(self.draw(len(rows)), after, rows)
        self._state = after
        return scores

    def _learn(self) -> float:
        """Follows the gradient on one batch from the memory; returns the loss."""
        batch, successors = self.memory.sample(self.config.learn_batch, self.generator)
        gain, rest, uncorrected = self.network(batch)
        unit = self.network.scale[self.network.steps_taken(batch)][:, None]
        tried = batch["tried"]
        loss = _error(gain.gather(1, tried), batch["gains"] / unit)
        if self.has_density:
            wanted = self.network.sums(batch["density"][:, None]).flatten(1) / unit
            loss = loss + self.config.density_weight * _error(uncorrected, wanted)
        if self.config.gamma > 0:
            taken = tried.gather(1, batch["choice"][:, None])
            wanted = self._rest(batch, successors)[:, None] / unit
            loss = loss + _error(rest.gather(1, taken), wanted)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.grad_clip)
        self.optimizer.step()
        self._average()
        return loss.item()

    @torch.no_grad()
    def _average(self) -> None:
        """Follows the network; at first quickly, so that where it began is soon forgotten."""
        batches = self.updates * self.config.gradient_steps + 1
        share = max(self.config.averaging, 1 / batches)
        for mean, value in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, share)
        self.averaged.scale.copy_(self.network.scale)

    @torch.no_grad()
    def _rest(self, batch: Mapping[str, Tensor], successors: Mapping[str, Tensor]) -> Tensor:
        """Discounted value of the next state (N,): the one network chooses, the other values."""
        gain, rest, _ = self.network(successors)
        best = (gain + rest).argmax(1, keepdim=True)
        gain, rest, _ = self.averaged(successors)
        unit = self.averaged.scale[self.averaged.steps_taken(successors)]
        value: Tensor = (gain + rest).gather(1, best)[:, 0] * unit
        return self.config.gamma * value.masked_fill(batch["done"], 0.0)

    def _tries(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Locations to measure, (N, tries): the best, some that seem good, and any."""
        gain, rest, _ = self.network(observation)
        value = gain + rest
        number, locations = value.shape
        good = max(0, self.config.tries // 2 - 1)
        chances = (value / GOOD_TEMPERATURE).softmax(1)
        tries = [value.argmax(1, keepdim=True)]
        if good:
            tries.append(torch.multinomial(chances, good, generator=self.generator))
        any_number = self.config.tries - 1 - good
        tries.append(
            torch.randint(
                locations, (number, any_number), generator=self.generator, device=value.device
            )
        )
        return torch.cat(tries, dim=1)

    def _density(self, state: CoreState, first_error: Tensor, change: Tensor | None) -> Tensor:
        """The gain of a patch that is full of each cell, as a share of the first error."""
        restored = None if change is None else state.image + change
        gain = functional.avg_pool2d(gain_map(self.core, state, restored)[:, None], CELL)[:, 0]
        patch = math.prod(self.core.geometry.patch_size)
        share = gain * patch / (first_error[:, None, None] * state.hr[0].numel())
        return share.float()

    def _follow(self, step: Tensor, gains: Tensor) -> None:
        """Keeps the typical size of the gains after so many patches, in which they are learned."""
        size = gains.square().mean(1).sqrt().to(self.network.scale.dtype)
        for taken in step.unique().tolist():
            seen = size[step == taken].mean().clamp_min(SMALLEST_SCALE)
            before = self.network.scale[taken]
            self.network.scale[taken] = seen if before == 1 else 0.95 * before + 0.05 * seen

    def _spread_episodes(self) -> CoreState:
        """Episodes at different steps, by random actions, so that a batch is of all ages."""
        core, envs = self.core, self.config.envs
        state = core.reset(self.draw(envs))
        for step in range(1, core.num_steps):
            action = torch.randint(
                core.geometry.num_locations,
                (envs,),
                generator=self.generator,
                device=core.device,
            )
            state, _, _ = core.step(state, action)
            rows = torch.arange(step - 1, envs, core.num_steps - 1)
            if len(rows):
                state = core.reset(self.draw(len(rows)), state, rows)
        return state

    def _random(self, number: int) -> Tensor:
        return torch.rand(number, generator=self.generator, device=self.core.device)

    def _exploration(self) -> float:
        return self.config.exploration * (1 - 0.8 * self.updates / self.config.updates)

    def _warm_up(self) -> float:
        return min(1.0, (self.updates + 1) / min(20, self.config.updates))

    def _cosine(self) -> float:
        return 0.5 * (1 + math.cos(math.pi * self.updates / self.config.updates))


def _error(predicted: Tensor, measured: Tensor) -> Tensor:
    """Squared up to a few typical gains, linear beyond: late gains have heavy tails."""
    return functional.huber_loss(predicted, measured, delta=3.0)


def _check(config: QMapConfig) -> None:
    least = {
        "updates": 1,
        "envs": 1,
        "tries": 2,
        "gradient_steps": 1,
        "learn_batch": 1,
        "memory": 2,
    }
    for name, smallest in least.items():
        if getattr(config, name) < smallest:
            raise ConfigurationError(
                f"{name}={getattr(config, name)} is too small: give at least {smallest}."
            )
    if not 0 <= config.gamma <= 1:
        raise ConfigurationError(f"gamma={config.gamma} is out of range: give one in [0, 1].")
