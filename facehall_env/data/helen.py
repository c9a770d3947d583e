"""Helen: 2,330 photographs of faces, 2,000 to train and 330 to test with.

Le, Brandt, Lin, Bourdev, Huang, "Interactive facial feature localization", ECCV 2012.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facehall_env.data.dataset_folders import Layout, by_stem, read_table
from facehall_env.data.image_list import ListedFaces
from facehall_env.data.images import images_below
from facehall_env.errors import DatasetError

LAYOUT = Layout(
    name="helen",
    title="Helen",
    folders=("Helen", "HELEN"),
    marks=("helen_[1-5]", "train_[1-4]", "trainnames.txt", "testnames.txt"),
    expected="helen_1 ... helen_5 and test with the photographs, trainnames.txt, testnames.txt",
    images=2_330,
)
DIC_LAYOUT = Layout(
    name="helen-dic",
    title="DIC's cropped Helen test set",
    folders=("helen_dic", "Helen_test_DIC"),
    marks=("HR", "*.png", "*.jpg"),
    expected="50 faces of 128x128 pixels, in it or in its folder HR",
    images=50,
)
"""What DIC's authors have cut out of 50 photographs; SPARNet and DIC are compared on it."""


@dataclass(repr=False, eq=False)
class Helen(ListedFaces):
    """Helen's photographs, or the faces that DIC's authors have cut out of 50 of them.

    The photographs are large and show more than the face: cut the faces out first with
    ``facehall data prepare``, which keeps the folders' and the files' names; the lists are then
    copied by hand.

    ``train`` are 2,000 photographs and ``test`` 330, as ``trainnames.txt`` and ``testnames.txt``
    have them; without these, what lies in a folder ``test`` is for testing and the rest for
    training. Options beside those of `ListedFaces`:

    Args:
        release: ``"original"``, or ``"dic"`` for the cropped faces (by default in ``helen-dic`` in
            ``FACEHALL_DATA`` or the user's cache), all of which are for testing.
    """

    name = "helen"
    release: Literal["original", "dic"] = "original"

    def find_images(self) -> tuple[Path, list[str]]:
        """The split's photographs, by path or as its list has them."""
        if self.release == "dic":
            return self._cropped()
        home = LAYOUT.locate(self.root)
        keys = images_below(home)
        LAYOUT.check_number(len(keys), home)
        return home, keys if self.split == "all" else self._part(home, keys)

    def _part(self, home: Path, keys: list[str]) -> list[str]:
        path = home / f"{self.split}names.txt"
        if path.is_file():
            names = [Path(row[0]).stem for row in read_table(path, 1)]
            stems = by_stem(keys, home)
            present = [stems[name] for name in names if name in stems]
            if not present:
                raise DatasetError(
                    f"None of the {len(names):,} names in {path} is among the {len(keys):,} images "
                    f"in {home}: expected {LAYOUT.expected}."
                )
            return present
        test = self.split == "test"
        chosen = [key for key in keys if ("test" in Path(key).parts[:-1]) == test]
        if len(chosen) in (0, len(keys)):
            raise DatasetError(
                f"{home} holds {len(keys):,} images but neither {path.name} nor a folder test, "
                f'which say who is in split {self.split!r}: add one of them, or use split="all".'
            )
        return chosen

    def _cropped(self) -> tuple[Path, list[str]]:
        home = DIC_LAYOUT.locate(self.root)
        if self.split == "train":
            raise DatasetError(
                f"{home} is DIC's test set, which has nothing to train with: use split='test'."
            )
        home = home / "HR" if (home / "HR").is_dir() else home
        keys = images_below(home, recursive=False)
        DIC_LAYOUT.check_number(len(keys), home)
        return home, keys
