"""Settings of ``facehall data prepare``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from facehall_env.limits import Ge, Gt


@dataclass
class PrepareConfig:
    """How faces are cut out of a folder of photographs."""

    src: Path
    """Folder of photographs; its sub-folders count."""
    out: Path
    """Folder for the faces, PNG files under the same names, and for report.json."""
    size: Annotated[int, Ge(1)] = 128
    """Side length of the faces in pixels."""
    margin: Annotated[float, Gt(0)] = 1.3
    """Factor by which the longer side of the detected box, which has the features only, is
    enlarged."""
    align: Literal["eyes", "none"] = "none"
    """eyes turns each face until its eyes are level."""
    which: Literal["largest", "all"] = "largest"
    """Which faces of a photograph: the largest, or all (NAME-1.png is the largest)."""
    min_side: Annotated[int, Ge(0)] = 0
    """Leave out faces whose enlarged box has a shorter side in the photograph, in pixels; SPARNet
    has 128."""
    upsample: Annotated[int, Ge(0)] = 1
    """Double each photograph so often before the search: 0 is fast and finds faces from 80 pixels
    on, 1 from 40 pixels on."""
    overwrite: bool = False
    """Make faces again that are there already."""
