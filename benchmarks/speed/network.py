"""What a whole-face network costs beside its convolutions.

Every convolution is timed alone with the input that it gets in the network, continued at the
border already. What the forward pass takes in addition goes into norms, activations, padding and
the like. The convolutions are those that the network defines: a network that was made fast for
inference computes some of them with less work, so that its ratio may be below 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env.benchmarks.speed.contents import NetworkRow, NetworkTime
from facehall_env.benchmarks.speed.output import publish
from facehall_env.benchmarks.speed.settings import Form, Layout, NetworkConfig
from facehall_env.benchmarks.speed.timing import seconds_per_call, take_turns
from facehall_env.benchmarks.speed.untrained import make_enhancer
from facehall_env.core import cpu_has_bfloat16
from facehall_env.enhancers import Enhancer, OneShot, for_inference, fuse_batch_norm
from facehall_env.enhancers.base import shrink
from facehall_env.errors import ConfigurationError
from facehall_env.literals import Precision
from facehall_env.progress import progress

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


@dataclass(frozen=True)
class Convolution:
    """One convolution of a forward pass, ready to be done again.

    Attributes:
        name: Name of its module in the network.
        module: The module.
        given: Its input, (N, C, H, W), continued at the border unless that is done by zeros.
        padding: Padding passed to conv2d, which continues the border by zeros.
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


def run(config: NetworkConfig, command: str = "") -> dict[str, Any]:
    """Measures, prints the table and writes ``network-NAME.json``.

    Args:
        config: The settings.
        command: What was typed, for the results file.

    Returns:
        What was written.

    Raises:
        FacehallError: If the settings do not allow it.
    """
    config.check()
    measured = cases(config)
    with progress(total=2 * config.repetitions * len(measured), desc="measuring") as bar:
        rows = [measure(config, *case, bar.update) for case in measured]
    name = f"network-{config.enhancer.split()[0]}"
    return publish(config, command, {"rows": rows}, NetworkTime, name)


def cases(config: NetworkConfig) -> list[tuple[Precision, Form, Layout]]:
    """What is measured on this machine.

    Raises:
        ConfigurationError: If it can do none of it.
    """
    emulated = config.device == "cpu" and not cpu_has_bfloat16()
    precisions = [p for p in config.precisions if not (p == "bf16" and emulated)]
    if not precisions:
        raise ConfigurationError(
            "This processor has no bfloat16 arithmetic: give --precisions fp32."
        )
    return list(product(precisions, config.forms, config.layouts))


@torch.no_grad()
def measure(
    config: NetworkConfig,
    precision: Precision,
    form: Form,
    layout: Layout,
    advance: Callable[[], Any],
) -> NetworkRow:
    """One row: milliseconds of the forward and of its convolutions alone, and their ratio.

    Args:
        config: The settings.
        precision: Numbers of the weights.
        form: ``"plain"``, ``"fused"`` (:func:`~facehall_env.enhancers.fuse_batch_norm`) or
            ``"fast"`` (:func:`~facehall_env.enhancers.for_inference`).
        layout: Order of weights and features in memory.
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
    whole, part = median(timings[FORWARD]), median(timings[CONVOLUTIONS])
    return NetworkRow(
        precision=precision,
        form=form,
        layout=layout,
        convolutions=len(convolutions),
        ms_per_image=1000 * whole / config.batch,
        convolutions_ms_per_image=1000 * part / config.batch,
        ratio=whole / part,
    )


def prepare(enhancer: Enhancer, precision: Precision, form: Form, layout: Layout) -> nn.Module:
    """A copy of the network that restores whole faces, as it is to be measured."""
    network = enhancer.network if isinstance(enhancer, OneShot) else enhancer.whole_face()
    network = FORMS[form](network)
    if precision == "bf16":
        network = network.bfloat16()
    laid_out: nn.Module = network.to(memory_format=FORMATS[layout])  # type: ignore[call-overload]
    return laid_out


def faces(enhancer: Enhancer, config: NetworkConfig) -> Tensor:
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
    return seconds_per_call(work, 0.0, device)
