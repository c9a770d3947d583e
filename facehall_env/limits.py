"""Limits of settings, written at their field and checked before anything heavy is loaded."""

from __future__ import annotations

import dataclasses
import math
import operator
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from facehall_env.errors import ConfigurationError
from facehall_env.registry import unknown_name


@dataclass(frozen=True)
class Limit:
    """A bound of a number; see its kinds below."""

    bound: float


class Ge(Limit):
    """At least this number."""


class Gt(Limit):
    """More than this number."""


class Le(Limit):
    """At most this number."""


class Lt(Limit):
    """Less than this number."""


_HOLDS = {Ge: operator.ge, Gt: operator.gt, Le: operator.le, Lt: operator.lt}
Seed = Annotated[int, Ge(0), Lt(2**63)]
"""What torch's generators take."""


def check(config: Any) -> None:
    """Refuses values of a dataclass that its fields' types, which are evaluated, do not allow.

    Numbers have to be finite, whole where the type is ``int``, and within the limits of their
    ``Annotated`` type; a ``Literal`` has to be one of its words. Optional fields, tuples and nested
    dataclasses are looked into; values of other types are not checked.

    Raises:
        ConfigurationError: Naming the first wrong field, its value and what is allowed.
        UnknownNameError: If the field is a ``Literal``; the message has the nearest word.

    >>> @dataclass
    ... class Settings:
    ...     updates: Annotated[int, Ge(1)] = 5
    ...     rate: Annotated[float, Gt(0)] | None = None
    ...     border: Literal["centre", "inside"] = "centre"
    >>> check(Settings())
    >>> check(Settings(updates=0))
    Traceback (most recent call last):
    ...
    facehall_env.errors.ConfigurationError: updates=0: give a whole number of 1 or more.
    >>> check(Settings(border="center"))
    Traceback (most recent call last):
    ...
    facehall_env.errors.UnknownNameError: Unknown border 'center': did you mean 'centre'? \
Available: centre, inside.
    """
    hints = typing.get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            check(value)
        elif (error := _error(field.name, value, hints[field.name], ())) is not None:
            raise error


def check_word(name: str, value: object, words: Any) -> None:
    """Refuses a value that is none of the words of a ``Literal``, with a ConfigurationError."""
    if value not in (known := typing.get_args(words)):
        raise ConfigurationError(f"{name}={value!r} is unknown: use one of {', '.join(known)}.")


def _error(name: str, value: Any, hint: Any, limits: tuple[Limit, ...]) -> Exception | None:
    """What is wrong with a value of the type ``hint``, or None."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind is Annotated:
        own = tuple(one for one in inner[1:] if isinstance(one, Limit))
        return _error(name, value, inner[0], limits + own)
    if kind in (Union, types.UnionType):
        errors = [_error(name, value, one, limits) for one in inner if one is not type(None)]
        return None if value is None or None in errors else errors[-1]
    if kind is Literal and value not in inner:
        return unknown_name(name, str(value), map(str, inner))
    if kind is tuple and isinstance(value, tuple | list):
        return _error_of_tuple(name, value, inner, limits)
    if hint is int or hint is float:
        return _error_of_number(name, value, hint is int, limits)
    return None


def _error_of_tuple(
    name: str, values: Any, inner: tuple[Any, ...], limits: tuple[Limit, ...]
) -> Exception | None:
    each = inner[:1] * len(values) if inner[1:] == (...,) else inner
    if len(each) != len(values):
        return ConfigurationError(f"{name}={values}: give {len(each)} values.")
    for place, (value, hint) in enumerate(zip(values, each, strict=True)):
        if (error := _error(f"{name}[{place}]", value, hint, limits)) is not None:
            return error
    return None


def _error_of_number(
    name: str, value: Any, whole: bool, limits: tuple[Limit, ...]
) -> Exception | None:
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    finite = number and math.isfinite(value)
    if finite and all(_HOLDS[type(limit)](value, limit.bound) for limit in limits):
        return None
    return ConfigurationError(f"{name}={value}: give {_words(whole, limits)}.")


def _words(whole: bool, limits: tuple[Limit, ...]) -> str:
    """What is allowed, as in "a number from 0 to below 1"."""
    bounds = {type(limit): f"{limit.bound:,}" for limit in limits}
    if Ge in bounds and Le in bounds:
        range_ = f" from {bounds[Ge]} to {bounds[Le]}"
    elif Ge in bounds and Lt in bounds:
        range_ = f" from {bounds[Ge]} to below {bounds[Lt]}"
    else:
        form = {Ge: " of {} or more", Gt: " above {}", Le: " of at most {}", Lt: " below {}"}
        range_ = " and".join(form[kind].format(bound) for kind, bound in bounds.items())
    return ("a whole number" if whole else "a number") + range_
