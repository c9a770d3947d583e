"""``python -m facehall_env.benchmarks`` is ``facehall``."""

from __future__ import annotations

import sys

from facehall_env.benchmarks.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
