"""The words that settings choose among, apart from the code that acts on them.

Nothing is imported here, so that a command can list what it offers without torch.
"""

from __future__ import annotations

from typing import Literal

Align = Literal["landmarks", "none"]
"""Faces turned, scaled and moved until their landmarks stand where a recogniser expects them, or
the largest window of its proportions in the middle of the image."""
Border = Literal["centre", "inside"]
"""Whether a patch may reach over the edge of the image; see `facehall_env.patches`."""
Precision = Literal["fp32", "bf16"]
"""Numbers that a network computes with."""
Split = Literal["train", "test", "all"]
"""Part of a dataset."""
