"""Tensors and their configuration in one safetensors file: checksummed, atomic, never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer

from facehall_env.errors import WeightsError
from facehall_env.files import atomic_path

FORMAT = "facehall-1"
Tensors = Mapping[str, torch.Tensor]


def _checksum(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        # Zero-dimensional tensors cannot be viewed as bytes.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_tensors(
    path: str | os.PathLike[str], tensors: Tensors, metadata: Mapping[str, Any], kind: str
) -> None:
    """Writes tensors with JSON metadata and a checksum, whole or not at all.

    Args:
        path: File to write; its folder is created.
        tensors: Named tensors of any shape and device.
        metadata: JSON-serialisable description (configuration, provenance).
        kind: What the file holds ("enhancer", "agent", "training"); checked on loading.

    Raises:
        WeightsError: If the file cannot be written; what stood there before is untouched.
    """
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    header = {"format": FORMAT, "kind": kind}
    header |= {"metadata": json.dumps(metadata), "checksum": _checksum(stored)}
    try:
        with atomic_path(path) as temporary:
            save_file(stored, temporary, metadata=header)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"Could not write {path} ({error}): free some space or choose another folder; "
            "the previous file, if any, is intact."
        ) from error


def load_tensors(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Reads what :func:`save_tensors` wrote, onto the CPU.

    Raises:
        WeightsError: If the file is missing, damaged, or holds something other than ``kind``.
    """
    file = Path(path)
    if not file.is_file():
        raise WeightsError(f"No {kind} file at {file}: check the path, or train one first.")
    try:
        with safe_open(file, framework="pt") as archive:
            header = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{file} is not a readable safetensors file ({error}): it is damaged or of another "
            "format; fetch or train it again."
        ) from error
    if header.get("format") != FORMAT or header.get("kind") != kind:
        found = header.get("kind", "tensors without our header")
        raise WeightsError(f"{file} holds {found}, expected {kind}: give a file of that kind.")
    if _checksum(tensors) != header.get("checksum"):
        raise WeightsError(
            f"{file} fails its checksum: its content was changed or damaged; fetch or train it "
            "again."
        )
    return tensors, json.loads(header["metadata"])


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """What :func:`save_tensors` says a file holds; None for a file that it did not write."""
    try:
        with safe_open(path, framework="pt") as archive:
            header = archive.metadata() or {}
    except (SafetensorError, OSError):
        return None
    return header.get("kind") if header.get("format") == FORMAT else None


def load_state(
    path: str | os.PathLike[str], what: str, advice: str = "check the path"
) -> dict[str, torch.Tensor]:
    """The tensors by name of a file of others; nothing but tensors is unpickled.

    Args:
        path: ``.safetensors``, or what ``torch.save`` made of a state dictionary.
        what: What is in it, as an error should call it.
        advice: What to do if it is not there.

    Raises:
        WeightsError: If the file is missing or is none of these.
    """
    file = Path(path)
    if not file.is_file():
        raise WeightsError(f"{file} does not exist, which should hold {what}: {advice}.")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    # On a file of another format torch's unpickler raises nearly anything, KeyError among it.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(
            f"{file} cannot be read as {what} ({reason}): give a .safetensors file, or a .pth "
            "file that holds a state dictionary and nothing else."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise WeightsError(
            f"{file} holds a {type(state).__name__} that is no state dictionary: save "
            "network.state_dict(), not the network."
        )
    return state


def fill(module: torch.nn.Module, tensors: Tensors, what: str) -> None:
    """Puts tensors into a module whose parameters and buffers have just these names and shapes.

    ``what`` is loaded for what, as an error should call it.

    Raises:
        WeightsError: Naming the first tensor that does not fit; the module is then unchanged.
    """
    wanted = {key: tensor.shape for key, tensor in module.state_dict().items()}
    found = {key: tensor.shape for key, tensor in tensors.items()}
    different = (key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    if (first := min(different, default=None)) is not None:
        raise WeightsError(
            f"Weights do not fit ({what}): {first} is {_shape(found.get(first))} in the file and "
            f"{_shape(wanted.get(first))} in the network; give the settings that they were "
            "trained with, or train them again."
        )
    module.load_state_dict(tensors)


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "a scalar"


def pack_optimizer(optimizer: Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Splits an optimiser's state into tensors and JSON, for :func:`save_tensors`."""
    state = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value.clone()
            else:
                scalars.setdefault(str(index), {})[name] = value
    return tensors, {"param_groups": state["param_groups"], "scalars": scalars}


def unpack_optimizer(optimizer: Optimizer, tensors: Tensors, metadata: Mapping[str, Any]) -> None:
    """Puts what :func:`pack_optimizer` took from one optimiser into an identical one."""
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    for index, entries in metadata["scalars"].items():
        state.setdefault(int(index), {}).update(entries)
    optimizer.load_state_dict({"state": state, "param_groups": metadata["param_groups"]})


def with_prefix(prefix: str, tensors: Tensors) -> dict[str, torch.Tensor]:
    """The same tensors under names that start with ``prefix`` and a slash."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def under_prefix(prefix: str, tensors: Tensors) -> dict[str, torch.Tensor]:
    """The tensors whose names start with ``prefix`` and a slash, without it."""
    start = f"{prefix}/"
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}
