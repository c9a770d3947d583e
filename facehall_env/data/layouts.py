"""How the folders look of the datasets that cannot be fetched."""

from __future__ import annotations

from facehall_env.data import bioid, celeba, ffhq, helen, identities, scface
from facehall_env.data.dataset_folders import Layout

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        bioid.LAYOUT,
        celeba.LAYOUT,
        ffhq.LAYOUT,
        helen.LAYOUT,
        identities.YTF_LAYOUT,
        scface.LAYOUT,
    )
}
"""By the datasets' names."""
