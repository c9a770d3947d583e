"""What all trainings have in common: a gradient step, its checks, and what a checkpoint holds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from facehall_env import limits
from facehall_env.checkpoints import pack_optimizer, under_prefix, unpack_optimizer, with_prefix
from facehall_env.errors import EnhancerError
from facehall_env.spec import check_device
from facehall_env.training.budget import Budget
from facehall_env.training.distributed import Team
from facehall_env.training.run import TrainingRun
from facehall_env.training.schedules import moving_average

BEST = "best.safetensors"
"""File of the weights with the best score on held-out faces."""


Tensors = Mapping[str, Tensor]
Metadata = Mapping[str, Any]


class Learner:
    """Networks that follow a gradient; their whole state can be saved and restored.

    Args:
        team: The processes that share each batch; this process alone by default.

    Attributes:
        step: Number of updates so far.
        total: Number of updates of the whole training, which schedules follow.
        modules: Networks whose state belongs to a checkpoint, by name.
    """

    advice: ClassVar[str] = "start again with a lower learning rate"
    """What an error about a loss that is not finite tells the user to do."""

    def __init__(self, team: Team | None = None) -> None:
        self.team = team or Team()
        self.step = 0
        self.total = 1
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.generators: dict[str, torch.Generator] = {}

    def add_optimizer(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        """Adds an optimiser whose groups remember the learning rates that they start with."""
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.optimizers[name] = optimizer

    def scale_learning_rates(self, factor: float) -> None:
        """Sets every learning rate to ``factor`` times the one that it started with."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def descend(
        self, name: str, loss: Tensor, grad_clip: float = 0.0, index: Tensor | None = None
    ) -> tuple[float, float]:
        """Takes one gradient step.

        Args:
            name: The optimiser.
            loss: A scalar; its mean over the processes is minimised.
            grad_clip: Largest norm of the gradient; 0 for no limit.
            index: Numbers of the training faces that the loss comes from, for error messages.

        Returns:
            The mean loss over the processes, and the norm of the gradient before it was clipped.

        Raises:
            EnhancerError: If the loss or its gradient is not finite; the weights stay as they were.
        """
        optimizer = self.optimizers[name]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        of_which = f" of the {name}" if len(self.optimizers) > 1 else ""
        value = self.team.mean(loss).item()
        self.check_finite(value, f"the loss{of_which}", index)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.team.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, grad_clip or math.inf).item()
        self.check_finite(norm, f"the gradient's norm{of_which}", index)
        optimizer.step()
        return value, norm

    def check_finite(self, value: float, what: str, index: Tensor | None = None) -> None:
        """Stops a training by an EnhancerError before numbers that are not finite are saved."""
        if math.isfinite(value):
            return
        faces = "" if index is None else f", on the training faces {str(index.tolist())[1:-1]}"
        raise EnhancerError(
            f"At update {self.step}{faces}, {what} is {value}: the last checkpoint is intact; "
            f"{self.advice}."
        )

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on; every process has to call this."""
        tensors = {f"random/{name}": g.get_state() for name, g in self.generators.items()}
        for name, module in self.modules.items():
            tensors |= with_prefix(name, module.state_dict())
        for name, optimizer in self.optimizers.items():
            tensors |= with_prefix(f"optimizer/{name}", pack_optimizer(optimizer)[0])
        return tensors

    def state_metadata(self) -> dict[str, Any]:
        """The part of the state that is not tensors; JSON-serialisable."""
        packed = {name: pack_optimizer(o)[1] for name, o in self.optimizers.items()}
        return {"optimizers": packed}

    def restore(self, step: int, tensors: Tensors, metadata: Metadata) -> None:
        """Puts back what :meth:`state_tensors` and :meth:`state_metadata` gave after ``step``."""
        self.step = step
        for name, module in self.modules.items():
            module.load_state_dict(under_prefix(name, tensors))
        for name, optimizer in self.optimizers.items():
            packed = under_prefix(f"optimizer/{name}", tensors)
            unpack_optimizer(optimizer, packed, metadata["optimizers"][name])
            _restore_memory_layout(optimizer)
        for name, generator in self.generators.items():
            generator.set_state(tensors[f"random/{name}"])


class Trainer(Learner, ABC):
    """A training of ours: makes updates, validates, and writes weights.

    Args:
        config: The settings.
        title: What the progress bar says.
        team: The processes that share each batch.

    Attributes:
        rng: Draws faces and how they are varied, on the CPU.
        averages: Moving averages of networks, by the name of the network in ``modules``.
        best: Best score on the held-out faces so far.

    Raises:
        ConfigurationError: If a setting is out of range, or settings contradict each other.
        WeightsError: If the weights to start from cannot be used.
    """

    config: Any
    criterion: ClassVar[str | None] = None
    """The score by which :data:`BEST` is chosen; None to keep the last weights only."""
    last_file: ClassVar[str] = "enhancer.safetensors"
    """File of the weights after the last update."""
    result_file: ClassVar[str] = "enhancer.safetensors"
    """File that the training is for."""
    shown: ClassVar[tuple[str, ...]] = ()
    """The scores that the progress bar shows; all by default."""

    def __init__(self, config: Any, title: str, team: Team | None = None) -> None:
        super().__init__(team)
        limits.check(config)
        self.config = config
        self.title = title
        self.device = check_device(config.device)
        self.total = getattr(config, "updates", 1)
        self.rng = torch.Generator().manual_seed(config.seed)
        self.generators["faces"] = self.rng
        torch.manual_seed(config.seed)
        self.averages: dict[str, AveragedModel] = {}
        self.best = -math.inf

    def plan(self, budget: Budget) -> int:
        """Number of updates of the whole training, as estimated now; schedules follow it."""
        self.total = budget.total(self.step, self.config.updates)
        return self.total

    def update(self) -> dict[str, float]:
        """Makes one update; returns what is worth logging, for the faces of all processes.

        Raises:
            EnhancerError: If a loss or a gradient is not finite.
        """
        values = self.learn()
        for name, average in self.averages.items():
            average.update_parameters(self.modules[name])
        self.step += 1
        return values

    @abstractmethod
    def learn(self) -> dict[str, float]:
        """One update of the weights; returns what is worth logging."""

    @abstractmethod
    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        """Scores of the held-out faces; writes what is worth keeping to the run's folder."""

    def postfix(self, scores: Mapping[str, float]) -> str:
        """The scores as the progress bar shows them."""
        return shown(scores, self.shown or tuple(scores))

    @abstractmethod
    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """Writes what is trained."""

    def add_average(self, name: str, decay: float) -> None:
        """Keeps a moving average of a network from here on, unless ``decay`` is 0."""
        if decay > 0:
            self.averages[name] = moving_average(self.modules[name], decay)

    def averaged(self, name: str) -> nn.Module:
        """The network that is validated and saved: the average if there is one."""
        average = self.averages.get(name)
        return self.modules[name] if average is None else average.module

    def keep_best(self, run: TrainingRun, scores: dict[str, float]) -> dict[str, float]:
        """Writes :data:`BEST` if the scores are the best so far; returns the scores."""
        if self.criterion is not None and scores[self.criterion] > self.best:
            self.best = scores[self.criterion]
            self.save(run.directory / BEST, self.provenance(run, scores))
        return scores

    def finish(self, run: TrainingRun, scores: Mapping[str, float]) -> None:
        """Writes what a training that is over leaves, in the process that leads."""
        self.save(run.directory / self.last_file, self.provenance(run, scores))

    def provenance(self, run: TrainingRun, scores: Mapping[str, float]) -> dict[str, Any]:
        """How the present weights came to be."""
        return {**run.provenance(), "held_out": dict(scores), "updates": self.step}

    def close(self) -> None:
        """Called when the training ends or fails."""

    def state_tensors(self) -> dict[str, Tensor]:
        """See :meth:`Learner.state_tensors`."""
        tensors = super().state_tensors()
        for name, average in self.averages.items():
            tensors |= with_prefix(f"average/{name}", average.state_dict())
        # Networks with dropout draw from it.
        return {**tensors, "torch_generator": torch.get_rng_state()}

    def state_metadata(self) -> dict[str, Any]:
        """See :meth:`Learner.state_metadata`."""
        best = self.best if math.isfinite(self.best) else None
        return {**super().state_metadata(), "best": best}

    def restore(self, step: int, tensors: Tensors, metadata: Metadata) -> None:
        """See :meth:`Learner.restore`."""
        super().restore(step, tensors, metadata)
        for name, average in self.averages.items():
            average.load_state_dict(under_prefix(f"average/{name}", tensors))
        torch.set_rng_state(tensors["torch_generator"])
        self.best = -math.inf if metadata["best"] is None else metadata["best"]


def shown(scores: Mapping[str, float], names: Sequence[str]) -> str:
    """Some scores in a line.

    >>> shown({"psnr/held_out": 25.7312, "ssim/held_out": 0.81234}, ["psnr/held_out"])
    'psnr/held_out=25.73'
    """
    return ", ".join(f"{name}={scores[name]:.4g}" for name in names)


def _restore_memory_layout(optimizer: torch.optim.Optimizer) -> None:
    """Gives an optimiser's state the memory layout of its weights, which files do not keep.

    Otherwise the arithmetic takes another path, and results differ in the last bit.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.ndim > 1 and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)
