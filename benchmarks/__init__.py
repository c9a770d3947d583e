"""The papers' tables, throughput, and the command line.

``facehall --help`` lists what there is; each benchmark is a function of a dataclass, too::

    from facehall_env.benchmarks.quality.patch_selection import run
    from facehall_env.benchmarks.quality.settings import PatchSelectionConfig
    from facehall_env.spec import FacesSpec

    rows = run(PatchSelectionConfig(faces=FacesSpec("lfw"), limit=100)).rows
"""

from __future__ import annotations

if __name__ == "benchmarks":
    raise ImportError(
        "Import facehall_env.benchmarks: the bare name 'benchmarks' would load a second copy of it."
    )
