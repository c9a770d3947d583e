"""Options of ``facehall demo``, ``enhance``, ``mos`` and ``data check``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from facehall_env import limits
from facehall_env.errors import ConfigurationError
from facehall_env.limits import Ge, Gt, Seed
from facehall_env.literals import Precision, Split
from facehall_env.photos.settings import PrepareConfig as PrepareConfig
from facehall_env.spec import BICUBIC, FacesSpec

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]


@dataclass
class DemoConfig:
    """Settings of ``facehall demo``."""

    out: Path = Path("facehall-demo")
    """Folder for the table, the figures and the GIF."""
    limit: Count = 16
    """Number of drawn faces."""
    steps: tuple[Count, ...] = (5, 9)
    """Numbers of patches to report."""
    film_faces: Count = 3
    """Number of faces in the GIF."""
    oracle_stride: Count = 32
    """Spacing in pixels of the locations that the oracle tries; it takes most of the time."""
    oracle_refine: Annotated[int, Ge(0)] = 2
    """How often the oracle also tries the neighbours of its best location, at half the spacing."""
    fresh: bool = False
    """Measure again what an earlier demo has left in the folder."""


@dataclass
class EnhanceConfig:
    """Settings of ``facehall enhance``."""

    photos: tuple[str, ...]
    """Photographs, folders of them (with their sub-folders), or patterns such as 'party/*.jpg'."""
    out: Path = Path("facehall-enhanced")
    """Folder for what is made of each photograph: NAME.png, NAME-before-after.png and
    NAME-patches.gif."""
    enhancer: str | None = None
    """Network that restores the patches; by default that of --weights, or compact."""
    weights: Path | None = None
    """File with the enhancer's weights; by default those that come with the project."""
    agent: str = "rl"
    """Who chooses the patches: a name, or the file of a learned agent."""
    scale: Count | None = None
    """Factor by which photographs are enlarged; by default that of --weights, or 4."""
    steps: Count = 25
    """Patches for each face."""
    initial: str = BICUBIC
    """What episodes start from: bicubic, or a network that restores whole faces, by its name or
    its file."""
    protocol: str = "bicubic"
    """How the faces that the weights were trained on were enlarged."""
    face_size: Count | None = None
    """Side of a restored face in pixels; by default the agent's own, or 128. For larger faces, with
    an agent that is not bound to a size: --face-size 256 --agent saliency."""
    crop: Literal["faces", "none"] = "faces"
    """faces finds them (extra faces); none takes every photograph for one face, as it is."""
    margin: Positive = 1.3
    """Side of the square that is restored, in units of the detected box, which has the features
    only."""
    max_face: Count | None = None
    """Downscale photographs first, until the square of their largest face has so many pixels a
    side."""
    smallest_face: Positive | None = None
    """Side of the smallest faces to look for, from the brows to the chin, in pixels; by default
    about 20 in small photographs, and 4 % of the longer side in large ones."""
    max_megapixels: Positive = 256
    """Refuse photographs that would become larger than that."""
    gif: bool = True
    """Whether to animate the patches being chosen."""
    overwrite: bool = False
    """Make again what is there already."""
    device: str = "cpu"
    """Where the networks run."""
    batch: Count = 32
    """Most faces to restore at once, whichever photographs they are on."""
    seed: Seed = 0
    """Seed of the agent random."""

    def check(self) -> None:
        """Raises a `ConfigurationError` if there are no photographs or the agent is an archive."""
        limits.check(self)
        if not self.photos:
            raise ConfigurationError("Name photographs, folders of them, or patterns.")
        if Path(self.agent).suffix == ".zip":
            raise ConfigurationError(
                f"--agent {self.agent} is an archive of Stable-Baselines3, which could run any "
                "code when it is loaded: give a .safetensors file of ours."
            )


@dataclass
class MosBuildConfig:
    """Settings of ``facehall mos build``."""

    folders: tuple[str, ...] = ()
    """Results that are there already, as NAME=FOLDER: images of the same file name show the same
    face. Faces that are not in all folders are left out."""
    models: tuple[str, ...] = ()
    """Networks that restore faces of the dataset, as for `facehall bench sr`: NAME, NAME=PATH."""
    agents: tuple[str, ...] = ()
    """Agents that do so, as for `facehall bench sr`: ROW=ENHANCER,AGENT[,INITIAL]."""
    truth: bool = True
    """With --models or --agents: show the true faces, too."""
    faces: FacesSpec = field(default_factory=lambda: FacesSpec(scale=8))
    """The faces that --models and --agents restore; the dataset's test split."""
    steps: Count = 25
    """Patches of an agent, T."""
    limit: Count = 20
    """Number of faces; each is shown once by every method."""
    title: str = "Rate these faces"
    """Heading of the page."""
    seed: Seed = 0
    """Draws the names under which the page hides who made what."""
    device: str = "cpu"
    """Where to compute."""
    precision: Precision = "fp32"
    """Numbers that the networks compute with: fp32 or bf16."""
    out: Path = Path("mos")
    """Folder for index.html, which goes to the raters, and key.json, which does not."""

    def check(self) -> None:
        """Raises a `ConfigurationError` if nothing is to be rated, or folders come with models."""
        limits.check(self)
        restored = bool(self.models or self.agents)
        if restored == bool(self.folders):
            raise ConfigurationError(
                "Give either --folders NAME=FOLDER ... or --models and --agents: the same faces "
                "have to be shown by all."
            )


@dataclass
class MosScoreConfig:
    """Settings of ``facehall mos score``."""

    key: Path
    """key.json, which `facehall mos build` wrote beside the page."""
    ratings: tuple[Path, ...]
    """Files that raters have saved."""
    out: Path | None = None
    """Folder for mos.json and mos.md; printed only by default."""


@dataclass
class DataCheckConfig:
    """Settings of ``facehall data check``."""

    dataset: str | None = None
    """Name of the dataset to read; without one, all are listed."""
    split: Split = "all"
    """Part of the dataset."""
    root: Path | None = None
    """Folder of a dataset that takes one; by default FACEHALL_DATA and the cache are searched."""
    limit: Count | None = None
    """Read only so many images; all by default."""
