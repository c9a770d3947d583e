"""What the content of a JSON file has to look like, and the first place where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Form = Any
"""``str``, ``int`` or ``float`` (any number) for values of that type; a tuple of forms for any of
them, with None for null; ``[form]`` for a list of at least one of them, ``[form, ...]`` for one of
any length; a dictionary for at least these keys; ``{str: form}`` for any keys."""

_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def mismatch(value: Any, form: Form, place: str = "") -> str | None:
    """What is wrong with a value, in words that follow the name of its file.

    Args:
        value: As `json.loads` returns it.
        form: What is expected.
        place: Where in the file the value stands, as ``rows[3].psnr``.

    Returns:
        None if the value has the form.

    >>> mismatch({"rows": [{"psnr": 30.5}]}, {"rows": [{"psnr": float}]})
    >>> mismatch({"rows": [{"psnr": "30.5"}]}, {"rows": [{"psnr": (float, None)}]})
    "rows[0].psnr is '30.5', expected a number or null"
    >>> mismatch({"rows": [{}]}, {"rows": [{"psnr": float}]})
    'there is no rows[0].psnr'
    """
    if isinstance(form, dict):
        return _in_mapping(value, form, place)
    if isinstance(form, list):
        return _in_list(value, form, place)
    if isinstance(form, tuple) and any(isinstance(choice, dict | list) for choice in form):
        problems = [mismatch(value, choice, place) for choice in form]
        return None if None in problems else problems[0]
    choices = form if isinstance(form, tuple) else (form,)
    if any(_is(value, choice) for choice in choices):
        return None
    names = " or ".join("null" if choice is None else _NAMES[choice] for choice in choices)
    return f"{place} is {_shown(value)}, expected {names}"


def _in_mapping(value: Any, form: Mapping[Any, Form], place: str) -> str | None:
    if not isinstance(value, Mapping):
        return f"{place or 'its content'} is {_shown(value)}, expected names with values"
    members = dict.fromkeys(value, form[str]) if str in form else form
    for key, expected in members.items():
        inner = f"{place}.{key}" if place else str(key)
        if key not in value:
            return f"there is no {inner}"
        if problem := mismatch(value[key], expected, inner):
            return problem
    return None


def _in_list(value: Any, form: list[Form], place: str) -> str | None:
    if not isinstance(value, list):
        return f"{place} is {_shown(value)}, expected a list"
    if not value and form[-1] is not ...:
        return f"{place} is empty, expected a list with at least one entry"
    problems = (mismatch(item, form[0], f"{place}[{index}]") for index, item in enumerate(value))
    return next((problem for problem in problems if problem), None)


def _is(value: Any, kind: Any) -> bool:
    if kind is None:
        return value is None
    # True is an int to Python, but no number to a reader.
    if kind is not bool and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
