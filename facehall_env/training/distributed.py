"""Training on several devices or nodes: every process does its share, and sums meet.

Each process draws what the whole batch needs (faces, mirroring, actions) from the same seed and
keeps its own rows, so that a run on N devices makes the updates of a run on one, up to rounding,
and the batch of the settings is that of all together.

Lightning Fabric starts and places the processes and adds tensors up across them. Its wrapping of
modules in `DistributedDataParallel`, which averages gradients on their way back, is left alone:
it follows `forward` of a module, once, where an update here calls a policy T times and an
enhancer through the core, and goes backward T times in joint training; and it averages the
processes' losses, where the mean over the pixels of patches that lie in the image is needed, of
which processes have different numbers. Adding up all gradients at once, after the last backward,
is exact, and less to know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessRaisedException

from facehall_env import limits
from facehall_env.errors import ConfigurationError, FacehallError, MissingExtraError
from facehall_env.nested import changed

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class DeviceSettings(Protocol):
    """What a training says about where it runs."""

    devices: int
    num_nodes: int

    @property
    def device(self) -> str:
        """Device of the training, such as ``"cuda"``."""


Config = TypeVar("Config", bound=DeviceSettings)


class Team:
    """The processes of a training, as one of them sees it; the base is a process alone.

    >>> alone = Team()
    >>> alone.own(torch.tensor([1, 2])).tolist(), alone.joined(torch.tensor([1, 2])).tolist()
    ([1, 2], [1, 2])
    """

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes logs and files."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors, which have the same shape; none is changed."""
        return tensor

    def check_shares(self, **numbers: int) -> None:
        """Checks that each process gets as many rows of batches, whose settings are named.

        Raises:
            ConfigurationError: Naming the first that does not.
        """
        for name, number in numbers.items():
            if number % self.size:
                raise ConfigurationError(
                    f"{name} gives {number} faces, which {self.size} processes cannot share "
                    f"equally: choose a multiple of {self.size}."
                )

    def own(self, everything: Tensor) -> Tensor:
        """This process's rows of what all have drawn alike, (B, ...) to (B / size, ...)."""
        share = len(everything) // self.size
        return everything[self.rank * share : (self.rank + 1) * share]

    def joined(self, own: Tensor) -> Tensor:
        """The rows of all processes, (B / size, ...) to (B, ...); nothing flows through it."""
        if self.size == 1:
            return own
        everything = own.new_zeros(self.size, *own.shape)
        everything[self.rank].copy_(own.detach())
        return self.sum(everything).flatten(0, 1)

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of all processes' tensors."""
        return tensor if self.size == 1 else self.sum(tensor.detach()) / self.size

    def balanced(self, loss: Tensor, weight: Tensor) -> Tensor:
        """A mean loss, scaled so that its mean over the processes is the mean over everything.

        The loss, a scalar, is the mean over this process's pixels, and ``weight`` their number.
        """
        if self.size == 1:
            return loss
        weight = weight.to(loss.dtype)
        return loss * (weight * self.size / self.sum(weight))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces the gradients by their mean over the processes, all in one exchange."""
        self._average([p.grad for p in parameters if p.grad is not None])

    def average_buffers(self, network: nn.Module) -> None:
        """Replaces what batch normalisation has seen by its mean over the processes."""
        self._average([b for b in network.buffers() if b.is_floating_point()])

    def _average(self, tensors: list[Tensor]) -> None:
        if self.size == 1 or not tensors:
            return
        together = self.mean(torch.cat([tensor.flatten() for tensor in tensors]))
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, averaged in zip(tensors, together.split(sizes), strict=True):
            tensor.copy_(averaged.view_as(tensor))


class FabricTeam(Team):
    """Processes that Lightning Fabric has launched."""

    def __init__(self, fabric: Fabric) -> None:
        self.rank = fabric.global_rank
        self.size = fabric.world_size
        self._fabric = fabric

    def sum(self, tensor: Tensor) -> Tensor:
        """See :meth:`Team.sum`."""
        added: Any = self._fabric.all_reduce(tensor.clone(), reduce_op="sum")
        return cast(Tensor, added)


def launch(train: Callable[[Config, Team], Path], config: Config) -> Path:
    """Trains in this process, or in one for each device of each node.

    Processes are started here, unless a launcher such as torchrun or SLURM has done so. On several
    nodes without one, start the same command on each, with MASTER_ADDR and MASTER_PORT of the
    first and NODE_RANK from 0; all must see the same folder of the run.

    Args:
        train: A function of a module, since the processes have to import it; what it returns in
            the process that leads is what comes back. Its settings name the process's own device.
        config: The settings; they cross to the processes.

    Raises:
        MissingExtraError: If Lightning Fabric is needed and not installed.
        ConfigurationError: If there are no such devices, or more processes than processor cores.
        FacehallError: What a process raised.
    """
    limits.check(config)
    if config.devices * config.num_nodes == 1:
        return train(config, Team())
    complaints = get_context("spawn").SimpleQueue()
    work = partial(_work, train=train, config=config, complaints=complaints)
    try:
        written: Path = _fabric(config).launch(work)
    except ProcessRaisedException:
        if complaints.empty():
            raise
        raise complaints.get() from None
    return written


def _fabric(config: DeviceSettings) -> Fabric:
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    except ImportError as error:
        raise MissingExtraError("Lightning Fabric", "fabric") from error
    device = torch.device(config.device)
    if ":" in config.device:
        raise ConfigurationError(
            f"device={config.device!r} is one device, but {config.devices} on each of "
            f"{config.num_nodes} nodes are asked for: name their kind only, {device.type!r}."
        )
    if device.type == "cuda" and torch.cuda.device_count() < config.devices:
        raise ConfigurationError(
            f"devices={config.devices}, but this machine has {torch.cuda.device_count()} CUDA "
            "devices: ask for as many as there are."
        )
    most = max(2, os.cpu_count() or 1)  # Two on one core are good for a trial.
    if device.type == "cpu" and config.devices > most:
        raise ConfigurationError(
            f"devices={config.devices}, but this machine has processor cores for {most} processes: "
            f"ask for {most} at most."
        )
    launched = "LOCAL_RANK" in os.environ or SLURMEnvironment.detect()
    # Its other way to start processes, running the whole command line again, needs a script.
    return Fabric(
        accelerator=device.type,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy="ddp" if launched else "ddp_spawn",
    )


def _work(
    fabric: Fabric, train: Callable[[Config, Team], Path], config: Config, complaints: Any
) -> Path:
    """What each process does; errors that a user can put right are handed to who waits for it."""
    try:
        return train(changed(config, device=str(fabric.device)), FabricTeam(fabric))
    except FacehallError as error:
        complaints.put(error)
        raise
