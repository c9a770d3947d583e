"""How the folders look of the datasets that cannot be fetched."""

from __future__ import annotations

from facehall_env.data import bioid, celeba, ffhq, helen, identities, scface
from facehall_env.data.dataset_folders import Layout

_MODULES = (bioid, celeba, ffhq, helen, identities, scface)
LAYOUTS: dict[str, Layout] = {module.LAYOUT.name: module.LAYOUT for module in _MODULES}
"""By the datasets' names."""
