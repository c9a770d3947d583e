"""Options of ``facehall profile``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from facehall_env import limits
from facehall_env.agents.settings import TrainAgentConfig
from facehall_env.errors import ConfigurationError
from facehall_env.files import results_dir
from facehall_env.limits import Ge, Gt, Seed
from facehall_env.literals import Precision

Count = Annotated[int, Ge(1)]
Kind = Literal["batched", "SyncVectorEnv", "AsyncVectorEnv", "DummyVecEnv", "SubprocVecEnv"]
IN_PROCESSES: tuple[Kind, ...] = ("AsyncVectorEnv", "SubprocVecEnv")
OF_SB3: tuple[Kind, ...] = ("DummyVecEnv", "SubprocVecEnv")
Layout = Literal["channels_last", "contiguous"]
Form = Literal["fast", "fused", "plain"]


@dataclass
class ProfileConfig:
    """Options of all that is measured here."""

    device: str = "cpu"
    """Device that computes: cpu, cuda, cuda:1, ..."""
    out: Path = field(default_factory=results_dir)
    """Folder for the results file."""
    publish: bool = False
    """Write into benchmarks/results of this checkout instead."""

    def check(self) -> None:
        """Raises a `ConfigurationError` if a list is empty or a number too small."""
        limits.check(self)
        for name, value in vars(self).items():
            if value == () and name != "enhancer_settings":
                raise ConfigurationError(f"--{name.replace('_', '-')} is empty: give at least one.")


@dataclass
class EnvsConfig(ProfileConfig):
    """Settings of ``facehall profile envs``."""

    enhancer: str = "attention_fh"
    """The network inside the environments that are compared, and its settings if it has any:
    "attention_fh convolution=fourier"."""
    enhancers: tuple[str, ...] = ("compact", "attention_fh convolution=fourier", "attention_fh")
    """Networks whose patches per second are compared; ratios are to the last one."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    """Environments to compare: the batched one, and several of the single one side by side."""
    num_envs: tuple[Count, ...] = (1, 8, 32, 128)
    """Numbers of environments N."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    """Precisions of the network."""
    processes: Count = 8
    """Most processes to start at a time; what needs one for each of more environments is left
    out."""
    seconds: Annotated[float, Gt(0)] = 0.5
    """Least length of one measurement."""
    repetitions: Count = 3
    """Measurements of each kind; medians are reported."""
    memory: bool = True
    """Measure the peak memory, too, of each kind in a process of its own."""
    scale: Count = 4
    """Factor between low and high resolution."""
    seed: Seed = 0
    """Seed of faces and actions."""

    def check(self) -> None:
        """Raises a `ConfigurationError` also if there is nothing that the ratios could be to."""
        super().check()
        if self.kinds[0] != "batched":
            raise ConfigurationError(
                f"--kinds begins with {self.kinds[0]!r}: all ratios are to 'batched', name it "
                "first."
            )

    def kinds_at(self, number: int) -> list[Kind]:
        """The kinds that are measured with so many environments."""
        return [k for k in self.kinds if k not in IN_PROCESSES or number <= self.processes]


@dataclass
class NetworkConfig(ProfileConfig):
    """Settings of ``facehall profile network``."""

    enhancer: str = "sparnet"
    """The network, and its settings if it has any: "sparnet width=16"."""
    layouts: tuple[Layout, ...] = get_args(Layout)
    """Orders of weights and features in memory."""
    forms: tuple[Form, ...] = get_args(Form)
    """The network as it is, with batch norms fused, or all that is done for inference."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    """Precisions of the weights; bf16 is left out on processors without bfloat16 arithmetic."""
    scale: Count = 8
    """Factor between low and high resolution."""
    image_size: tuple[Count, Count] = (128, 128)
    """Height and width of the faces."""
    batch: Count = 1
    """Faces at once."""
    repetitions: Count = 5
    """Measurements of each kind, in turns; medians are reported."""


@dataclass
class MemoryConfig(ProfileConfig):
    """Settings of ``facehall profile memory``."""

    batch: Count = 1
    """Faces in an update."""
    size: Count = 512
    """Height and width of the faces."""
    enhancer_settings: tuple[str, ...] = ()
    """Settings of the generator as NAME=VALUE, such as width=32."""


@dataclass
class UpdateConfig(TrainAgentConfig):
    """Settings of ``facehall profile update``: those of the training that is looked at."""

    out: Path = field(default_factory=results_dir)
    """Folder for the results file."""
    publish: bool = False
    """Write into benchmarks/results of this checkout instead."""
    updates: Count = 3
    """Updates that are measured, after one that warms up."""
    limit: Count | None = 128
    """Use only this many faces of the training split."""
    validation_faces: Count = 1
    """Faces that are held out; none is looked at."""
