"""Examples in docstrings, run under the modules' real names."""

from __future__ import annotations

import doctest
import importlib


def test_examples(module_with_examples: str) -> None:
    module = importlib.import_module(module_with_examples)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0, "see the report on the standard output"
