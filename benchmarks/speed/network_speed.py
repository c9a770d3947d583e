"""What a whole-face network costs beside its convolutions.

Every convolution is timed alone with the input that it gets in the network, continued at the
border already. What the forward pass takes in addition went into norms, activations, padding and
the like. Convolutions are those that the network defines: of one made fast for inference, which
computes some of them with less work, the ratio may be below 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from facehall_env.agents.play import now
from facehall_env.benchmarks.provenance import header, write_json
from facehall_env.benchmarks.speed.throughput import make_enhancer, take_turns
from facehall_env.benchmarks.tables import Table, say_written, terminal
from facehall_env.core import Precision, cpu_has_bfloat16
from facehall_env.enhancers import Enhancer, OneShot, for_inference, fuse_batch_norm
from facehall_env.enhancers.base import shrink
from facehall_env.errors import ConfigurationError

Layout = Literal["channels_last", "contiguous"]
Form = Literal["fast", "fused", "plain"]
FORMATS: Mapping[Layout, torch.memory_format] = {
    "channels_last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}
FORMS: Mapping[Form, Callable[[nn.Module], nn.Module]] = {
    "fast": for_inference,
    "fused": fuse_batch_norm,
    "plain": lambda network: copy.deepcopy(network).eval(),
}
FORWARD, CONVOLUTIONS = "forward", "convolutions"


@dataclass
class NetworkSpeedConfig:
    """Settings of ``facehall bench network``."""

    enhancer: str = "sparnet"
    """The network, and its settings if it has any: "sparnet width=16"."""
    layouts: tuple[Layout, ...] = get_args(Layout)
    """Orders of weights and features in memory."""
    forms: tuple[Form, ...] = get_args(Form)
    """The network as it is, with batch norms fused, or all that is done for inference."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    """Precisions of the weights; bf16 is left out on processors without bfloat16 arithmetic."""
    scale: int = 8
    """Factor between low and high resolution."""
    image_size: tuple[int, int] = (128, 128)
    """Height and width of the faces."""
    batch: int = 1
    """Faces at once."""
    repetitions: int = 5
    """Measurements of each kind, in turns; medians are reported."""
    device: str = "cpu"
    """Where to compute."""
    out: Path = Path("benchmarks/results")
    """Folder for network-NAME.json."""

    def check(self) -> None:
        """Checks the settings.

        Raises:
            ConfigurationError: If a list is empty or a number too small.
        """
        for name in ("layouts", "forms", "precisions"):
            if not getattr(self, name):
                raise ConfigurationError(f"--{name} is empty: give at least one.")
        least = min(self.batch, self.repetitions, *self.image_size)
        if least < 1:
            raise ConfigurationError(
                f"Sides, --batch and --repetitions must be at least 1, got {least}."
            )

    def cases(self) -> list[tuple[Precision, Form, Layout]]:
        """What is measured on this machine.

        Raises:
            ConfigurationError: If it can do none of it.
        """
        emulated = self.device == "cpu" and not cpu_has_bfloat16()
        precisions = [p for p in self.precisions if not (p == "bf16" and emulated)]
        if not precisions:
            raise ConfigurationError(
                "This processor has no bfloat16 arithmetic: give --precisions fp32."
            )
        return list(product(precisions, self.forms, self.layouts))


@dataclass(frozen=True)
class Convolution:
    """One convolution of a forward pass, ready to be done again.

    Attributes:
        name: Of its module in the network.
        module: The module.
        given: (N, C, H, W), what it convolves, continued at the border.
        padding: What is left to be done of that, where the border is continued by zeros.
    """

    name: str
    module: nn.Conv2d
    given: Tensor
    padding: str | tuple[int, ...]

    def __call__(self) -> Tensor:
        """The convolution, nothing else."""
        module = self.module
        return functional.conv2d(
            self.given,
            module.weight,
            module.bias,
            module.stride,
            self.padding,
            module.dilation,
            module.groups,
        )


def run(
    config: NetworkSpeedConfig, command: str = "", console: Console | None = None
) -> dict[str, Any]:
    """Measures, prints the table and writes ``network-NAME.json``.

    Args:
        config: The settings.
        command: What was typed, for the results file.
        console: Where to print; the standard output by default.

    Returns:
        What was written.

    Raises:
        FacehallError: If the settings do not allow it.
    """
    config.check()
    cases = config.cases()
    console = console or terminal()
    with tqdm(total=2 * config.repetitions * len(cases), desc="measuring") as bar:
        rows = [measure(config, *case, bar.update) for case in cases]
    results = {
        **header("network", config, command),
        "rows": rows,
    }
    console.print(report(results).rich())
    path = config.out / f"network-{config.enhancer.split()[0]}.json"
    write_json(path, results)
    say_written(console, path)
    return results


@torch.no_grad()
def measure(
    config: NetworkSpeedConfig,
    precision: Precision,
    form: Form,
    layout: Layout,
    advance: Callable[[], Any],
) -> dict[str, Any]:
    """One row: milliseconds of the forward and of its convolutions alone, and their ratio.

    Args:
        config: The settings.
        precision: Of the weights.
        form: ``"plain"``, ``"fused"`` (:func:`~facehall_env.enhancers.fuse_batch_norm`) or
            ``"fast"`` (:func:`~facehall_env.enhancers.for_inference`).
        layout: In memory.
        advance: Called after each measurement.
    """
    device = torch.device(config.device)
    enhancer = make_enhancer(config.enhancer, config.scale)
    network = prepare(enhancer, precision, form, layout).to(device)
    given = faces(enhancer, config).to(device)
    defined = "fused" if form == "fast" else form
    convolutions = record(prepare(enhancer, precision, defined, layout).to(device), given)
    if not convolutions:
        raise ConfigurationError(
            f"The enhancer {config.enhancer!r} has no convolution whose time could be compared: "
            "choose another."
        )
    timings = take_turns(
        {
            FORWARD: lambda: seconds(lambda: network(given), device),
            CONVOLUTIONS: lambda: sum(seconds(each, device) for each in convolutions),
        },
        config.repetitions,
        advance,
    )
    return {
        "enhancer": config.enhancer,
        "precision": precision,
        "form": form,
        "layout": layout,
        "convolutions": len(convolutions),
        **summarise(timings[FORWARD], timings[CONVOLUTIONS], config.batch),
    }


def summarise(
    forward: Sequence[float], convolutions: Sequence[float], batch: int
) -> dict[str, float]:
    """Medians per image and their ratio.

    Args:
        forward: Seconds of each measurement of the forward.
        convolutions: Likewise of all its convolutions alone.
        batch: Images that a measurement is of.

    >>> summarise([0.2, 0.3, 0.9], [0.25, 0.2, 0.25], 2)
    {'ms_per_image': 150.0, 'convolutions_ms_per_image': 125.0, 'ratio': 1.2}
    """
    whole, part = median(forward), median(convolutions)
    return {
        "ms_per_image": 1000 * whole / batch,
        "convolutions_ms_per_image": 1000 * part / batch,
        "ratio": whole / part,
    }


def prepare(enhancer: Enhancer, precision: Precision, form: Form, layout: Layout) -> nn.Module:
    """A copy of the network that restores whole faces, as it is to be measured."""
    network = enhancer.network if isinstance(enhancer, OneShot) else enhancer.whole_face()
    network = FORMS[form](network)
    if precision == "bf16":
        network = network.bfloat16()
    laid_out: nn.Module = network.to(memory_format=FORMATS[layout])  # type: ignore[call-overload]
    return laid_out


def faces(enhancer: Enhancer, config: NetworkSpeedConfig) -> Tensor:
    """Noise as the network takes it: of high resolution, or of low where it takes that."""
    generator = torch.Generator().manual_seed(0)
    initial = torch.rand(config.batch, 3, *config.image_size, generator=generator)
    from_lr = isinstance(enhancer, OneShot) and enhancer.takes == "lr"
    return shrink(initial, enhancer.scale) if from_lr else initial


def record(network: nn.Module, given: Tensor) -> list[Convolution]:
    """All convolutions of one forward pass, in the order in which they are done."""
    done: list[Convolution] = []
    with _listening(network, done):
        network(given)
    return done


@contextmanager
def _listening(network: nn.Module, done: list[Convolution]) -> Iterator[None]:
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):

            def keep(module: nn.Conv2d, inputs: tuple[Tensor], name: str = name) -> None:
                done.append(_as_done(name, module, inputs[0]))

            handles.append(module.register_forward_pre_hook(keep))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _as_done(name: str, module: nn.Conv2d, given: Tensor) -> Convolution:
    if module.padding_mode == "zeros" or isinstance(module.padding, str):
        return Convolution(name, module, given, module.padding)
    height, width = module.padding
    border = (width, width, height, height)
    return Convolution(name, module, functional.pad(given, border, module.padding_mode), (0, 0))


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """How long something takes when it has just been done."""
    work()
    started = now(device)
    work()
    return now(device) - started


def report(results: Mapping[str, Any]) -> Table:
    """The results as a table."""
    rows, settings = results["rows"], results["settings"]
    height, width = settings["image_size"]
    return Table(
        f"{settings['enhancer']} beside its convolutions",
        ("network", "layout", "precision", "ms/image", "convolutions alone", "ratio"),
        [
            (
                row["form"],
                row["layout"],
                row["precision"],
                f"{row['ms_per_image']:.1f}",
                f"{row['convolutions_ms_per_image']:.1f}",
                f"{row['ratio']:.2f}",
            )
            for row in rows
        ],
        caption=(
            f"{height}x{width} pixels, {settings['batch']} at once, {rows[0]['convolutions']} "
            f"convolutions; medians of {settings['repetitions']}."
        ),
    )
