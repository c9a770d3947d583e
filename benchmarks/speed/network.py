"""What a whole-face network costs beside its convolutions.

Every convolution is timed alone with the input that it gets in the network, continued at the
border already. What the forward pass takes in addition goes into norms, activations, padding and
the like. The convolutions are those that the network defines: a network that was made fast for
inference computes some of them with less work, so that its ratio may be below 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
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
        m = self.module
        return functional.conv2d(
            self.given, m.weight, m.bias, m.stride, self.padding, m.dilation, m.groups
        )


def run(config: NetworkConfig, command: str = "") -> dict[str, Any]:
    """Measures, prints the table and writes ``network-NAME.json``; returns what was written.

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
    """What is measured on this machine; a `ConfigurationError` if it can do none of it."""
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

    The form is ``"plain"``, ``"fused"`` (:func:`~facehall_env.enhancers.fuse_batch_norm`) or
    ``"fast"`` (:func:`~facehall_env.enhancers.for_inference`), the layout the order of weights
    and features in memory. ``advance`` is called after each measurement.
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
    measurements = {
        "forward": lambda: seconds(lambda: network(given), device),
        "convolutions": lambda: sum(seconds(each, device) for each in convolutions),
    }
    whole, part = take_turns(measurements, config.repetitions, advance).values()
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

    def keep(name: str, module: nn.Conv2d, inputs: tuple[Tensor]) -> None:
        given, padding = inputs[0], module.padding
        if module.padding_mode != "zeros" and not isinstance(padding, str):
            height, width = padding
            border = (width, width, height, height)
            given, padding = functional.pad(given, border, module.padding_mode), (0, 0)
        done.append(Convolution(name, module, given, padding))

    with ExitStack() as hooks:
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d):
                handle = module.register_forward_pre_hook(partial(keep, name))
                hooks.callback(handle.remove)
        network(given)
    return done


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """How long something takes when it has just been done."""
    work()
    return seconds_per_call(work, 0.0, device)
