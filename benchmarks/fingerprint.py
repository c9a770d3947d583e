"""Hashes that change whenever an agent's or a network's code, weights or settings do.

Results are kept under these hashes. Whatever cannot be hashed completely, such as an object that
holds an open file, has no fingerprint, and nothing is kept for it.
"""

from __future__ import annotations

import hashlib
import sys
import types
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

PROJECT = "facehall_env"
NAMED_ONLY = frozenset({*sys.stdlib_module_names, "torch", "numpy", "gymnasium"})
"""Packages whose code is told apart by their versions alone."""
_ATOMS = (bool, int, float, complex, str, bytes, type(None), type(...), torch.dtype, torch.device)


class NoFingerprintError(Exception):
    """A part of an object cannot be hashed."""


def fingerprint(thing: object) -> str | None:
    """Hash of an object: the code of its class, its tensors and all its other attributes.

    Covered are nested containers, arrays, dataclasses, modules, functions with what they enclose,
    and everything else that can be pickled. Of classes and functions outside of this project, the
    Python standard library, torch and numpy, the source files of their package are hashed, too;
    of this project see `project_code`.

    Args:
        thing: Anything; it is not changed.

    Returns:
        64 hexadecimal digits, or None if a part of it cannot be hashed: an open file, a socket,
        an object of a compiled library, a function typed at a prompt.

    >>> fingerprint({"a": (1, torch.ones(2))}) == fingerprint({"a": (1, torch.ones(2))})
    True
    >>> fingerprint(torch.nn.Linear(1, 1)) == fingerprint(torch.nn.Linear(1, 1))
    False
    >>> fingerprint([open("/dev/null")]) is None
    True
    """
    try:
        return _Hasher().digest(thing).hex()
    except (NoFingerprintError, RecursionError):
        return None


@lru_cache(maxsize=1)
def project_code() -> str:
    """Hash of the source files that scores depend on: environment, enhancers, agents, scoring."""
    root = Path(str(sys.modules[PROJECT].__file__)).parent
    digest = hashlib.sha256()
    folders = [root, *(root / name for name in ("data", "metrics", "photos", "recognition"))]
    files = {path for folder in folders for path in folder.glob("*.py")}
    for folder in ("enhancers", "agents"):
        # A link in a checkout, which a recursive pattern would not follow on every Python.
        files |= set((root / folder).resolve().rglob("*.py"))
    files |= {root / "benchmarks" / f"{name}.py" for name in ("scoring", "embeddings", "restorers")}
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


class _Hasher:
    """Hashes one object; remembers what it has seen on the way."""

    def __init__(self) -> None:
        self._packages: dict[str, bytes] = {}
        self._done: dict[int, bytes] = {}
        self._open: dict[int, int] = {}
        # Ids of objects that are made on the way must not be given to others.
        self._alive: list[object] = []

    def digest(self, thing: Any) -> bytes:
        """32 bytes."""
        if isinstance(thing, _ATOMS) and type(thing).__module__ in NAMED_ONLY:
            return self._joined(type(thing).__name__, repr(thing))
        key = id(thing)
        if key in self._done:
            return self._done[key]
        if key in self._open:
            return self._joined("again", str(len(self._open) - self._open[key]))
        self._open[key] = len(self._open)
        self._alive.append(thing)
        try:
            found = self._content(thing)
        finally:
            del self._open[key]
        self._done[key] = found
        return found

    def _joined(self, *parts: str | bytes) -> bytes:
        digest = hashlib.sha256()
        for part in parts:
            raw = part.encode() if isinstance(part, str) else part
            digest.update(f"{len(raw)}:".encode() + raw)
        return digest.digest()

    def _content(self, thing: Any) -> bytes:
        if isinstance(thing, Tensor):
            return self._tensor(thing)
        if isinstance(thing, np.ndarray) and thing.dtype != object:
            array = np.ascontiguousarray(thing)
            return self._joined("array", f"{array.dtype}{array.shape}", array.tobytes())
        if isinstance(thing, torch.Generator):
            return self._joined("generator", self.digest(thing.get_state()))
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        if isinstance(thing, types.MethodType):
            return self._joined("method", self.digest(thing.__self__), self.digest(thing.__func__))
        if isinstance(thing, types.CodeType):
            consts = [self.digest(value) for value in thing.co_consts]
            return self._joined("code", thing.co_code, repr(thing.co_names), *consts)
        if isinstance(thing, types.ModuleType):
            return self._joined("module", thing.__name__, self._package(thing.__name__))
        if isinstance(thing, type):
            return self._class(thing)
        if type(thing) in (list, tuple):
            return self._joined(type(thing).__name__, *map(self.digest, thing))
        if type(thing) in (set, frozenset):
            return self._joined("set", *sorted(map(self.digest, thing)))
        if type(thing) is dict:
            items = (self.digest(part) for item in thing.items() for part in item)
            return self._joined("dict", *items)
        return self._object(thing)

    def _tensor(self, tensor: Tensor) -> bytes:
        try:
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise NoFingerprintError(str(error)) from error
        return self._joined("tensor", f"{tensor.dtype}{tuple(tensor.shape)}", raw)

    def _function(self, function: types.FunctionType) -> bytes:
        parts: list[str | bytes] = [
            f"{function.__module__}.{function.__qualname__}",
            self._package(function.__module__),
            self.digest(function.__code__),
            self.digest((function.__defaults__, function.__kwdefaults__)),
        ]
        for cell in function.__closure__ or ():
            try:
                parts.append(self.digest(cell.cell_contents))
            except ValueError:  # Not yet filled.
                parts.append(b"")
        return self._joined("function", *parts)

    def _class(self, cls: type) -> bytes:
        parts: list[str | bytes] = ["class"]
        for base in cls.__mro__:
            parts += [f"{base.__module__}.{base.__qualname__}", self._package(base.__module__)]
        return self._joined(*parts)

    def _object(self, thing: Any) -> bytes:
        """What pickling would write: a way to make the object, and its state."""
        try:
            reduced = thing.__reduce_ex__(2)
        except Exception as error:  # Objects raise whatever they like here.
            raise NoFingerprintError(f"a {type(thing).__qualname__}: {error}") from error
        own = self._class(type(thing))
        if isinstance(reduced, str):
            module = getattr(thing, "__module__", None) or type(thing).__module__
            return self._joined("global", own, reduced, module, self._package(module))
        make, arguments, *rest = reduced
        if isinstance(make, type | types.FunctionType):
            maker = self.digest(make)
        else:  # A function of a compiled library.
            place = str(getattr(make, "__module__", None))
            name = str(getattr(make, "__qualname__", make))
            maker = self._joined(place, name, self._package(place))
        state = [part if part is None or i == 0 else list(part) for i, part in enumerate(rest[:3])]
        return self._joined("object", own, maker, self.digest(arguments), self.digest(state))

    def _package(self, module: str | None) -> bytes:
        """Hash of the source of a module and of all modules of its package that are loaded."""
        top = (module or "").partition(".")[0]
        if top in NAMED_ONLY or top == PROJECT:
            return top.encode()
        if top not in self._packages:
            files = {
                name: path
                for name, module in list(sys.modules.items())
                if name.partition(".")[0] == top
                and (path := Path(getattr(module, "__file__", None) or "")).is_file()
            }
            if not any(path.suffix == ".py" for path in files.values()):
                raise NoFingerprintError(f"the source of {top!r} is not there")
            parts: list[str | bytes] = [""]
            with suppress(metadata.PackageNotFoundError):
                parts = [metadata.version(top)]
            for name, path in sorted(files.items()):
                about = path.stat()
                code = path.suffix == ".py"
                size_and_time = f"{about.st_size} {about.st_mtime_ns}"
                parts += [name, path.read_bytes() if code else size_and_time]
            self._packages[top] = self._joined(*parts)
        return self._packages[top]
