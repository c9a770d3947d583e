"""Settings of the benchmarks of restored faces.

Importing this module is light, so that the commands' help needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from facehall_env import limits
from facehall_env.agents.catalog import AGENTS as REGISTERED_AGENTS
from facehall_env.errors import ConfigurationError
from facehall_env.files import results_dir
from facehall_env.limits import Ge, Seed
from facehall_env.literals import Align, Border, Precision
from facehall_env.spec import BICUBIC, FacesSpec

AGENTS = (BICUBIC, "random", "even", "saliency", "static", "rl", "oracle")
"""Rows of the patch-selection benchmark; bicubic is the face that nobody has touched."""
PairSource = Literal["auto", "official", "drawn"]


@dataclass
class BenchConfig:
    """What the benchmarks of restored faces have in common."""

    faces: FacesSpec = field(default_factory=FacesSpec)
    """The faces; always of the dataset's test split."""
    limit: Annotated[int, Ge(1)] = 1000
    """Number of test images, the first ones of a fixed random order."""
    out: Path = field(default_factory=results_dir)
    """Folder for the results (JSON, Markdown, figures) and for the cache."""
    publish: bool = False
    """Write the results into benchmarks/results of this checkout instead."""
    device: str = "cpu"
    """Where to compute."""
    batch: Annotated[int, Ge(1)] = 32
    """Images that are restored at once when they are scored."""
    seed: Seed = 0
    """Seed of the random agent."""
    action_offset: Annotated[int, Ge(0)] | None = None
    """Row and column of its cell on which a patch is centred; the middle by default. Learned agents
    say it themselves, except for archives (.zip)."""
    trust_pickle: bool = False
    """Read archives (.zip) of Stable-Baselines3 as agents, though their pickles can run any code of
    whoever made them."""
    precision: Precision = "fp32"
    """Numbers that the networks compute with: fp32 or bf16."""
    fresh: bool = False
    """Score everything again, whatever an earlier run has left in the cache."""

    @property
    def faces_in_words(self) -> str:
        """What titles of tables say about the faces."""
        return f"{self.faces.dataset} {self.faces.scale}x, protocol {self.faces.protocol}"


@dataclass
class PatchSelectionConfig(BenchConfig):
    """Settings of ``facehall bench patch-selection``."""

    enhancer: str = "compact"
    """Network that restores the patches."""
    weights: str | None = "auto"
    """Weights of the enhancer: auto for those that come with the project, a file, or None."""
    agents: tuple[str, ...] = AGENTS
    """Who plays, in the order of the table; bicubic is the face that nobody has touched."""
    steps: tuple[Annotated[int, Ge(1)], ...] = (5, 9, 16, 25)
    """Numbers of patches T to report; the largest one is played, the others are its beginnings."""
    policy: tuple[str, ...] = ()
    """Learned agents: PATH in place of the shipped one of its kind, NAME=PATH as a further row."""
    initial: str = BICUBIC
    """What the faces start from: bicubic, or the result of a network that restores whole faces, by
    its name or the file of its weights."""
    extra_enhancer: tuple[str, ...] = ()
    """NAME=WEIGHTS,AGENT adds AGENT, a name or a file, on an enhancer with other weights."""
    oracle_limit: Annotated[int, Ge(1)] = 200
    """Number of images for the oracle, the first of those; shares are computed on these."""
    oracle_stride: Annotated[int, Ge(1)] = 16
    """Spacing in pixels of the locations that the oracle tries."""
    oracle_refine: Annotated[int, Ge(0)] = 0
    """How often the oracle also tries the neighbours of its best location, at half the spacing."""
    fsim_limit: Annotated[int, Ge(0)] = 200
    """Number of images on which FSIM, which is slow, is taken."""
    border: Border = "centre"
    """Patches centred anywhere, or kept inside the image."""
    action_stride: Annotated[int, Ge(1)] | None = None
    """Spacing in pixels of the locations; by default the learned agents' own, and 1 for others."""
    film_faces: Annotated[int, Ge(1)] = 3
    """Number of faces in the figure of the attended patches."""
    readme: Path | None = None
    """Markdown file to update between <!-- table:start --> and <!-- table:end -->."""

    def __post_init__(self) -> None:
        """Puts the numbers of patches in order."""
        self.steps = tuple(sorted(set(self.steps)))

    def check(self) -> None:
        """Refuses numbers that are too small, and unknown agents, by a `ConfigurationError`."""
        limits.check(self)
        if not self.steps:
            raise ConfigurationError("--steps is empty: give at least one number of patches.")
        for name in self.agents:
            if name != BICUBIC:
                REGISTERED_AGENTS.get(name)

    @property
    def words(self) -> tuple[str, ...]:
        """What the names of the results say."""
        faces = self.faces
        words = ["patch-selection", self.enhancer, faces.dataset, f"x{faces.scale}", faces.protocol]
        words += [] if self.initial == BICUBIC else ["on", Path(self.initial).stem]
        words += [] if self.border == "centre" else [self.border]
        return tuple(words)


@dataclass
class RestoringConfig(BenchConfig):
    """Which faces are restored by whom; a benchmark adds what it does with them."""

    models: tuple[str, ...] = (BICUBIC, "compact")
    """Rows: NAME, with the weights that come with the project; NAME=PATH with those in a file,
    NAME being the network's name or one for the row; NAME=None, untrained, for its cost alone."""
    agents: tuple[str, ...] = ()
    """Further rows: ROW=ENHANCER,AGENT or ROW=ENHANCER,AGENT,INITIAL restores patch by patch.
    ENHANCER and INITIAL, a network from whose result it starts, are names or files of weights;
    AGENT is a name or a file."""
    steps: Annotated[int, Ge(1)] = 25
    """Patches of an agent, T."""
    action_stride: Annotated[int, Ge(1)] = 1
    """Spacing in pixels of the locations of agents that learn nothing; others have their own."""

    def check(self) -> None:
        """Refuses numbers that are too small, and no rows, by a `ConfigurationError`."""
        limits.check(self)
        if not self.models and not self.agents:
            raise ConfigurationError("--models and --agents are empty: give at least one row.")

    def words(self, benchmark: str, *more: str) -> tuple[str, ...]:
        """What the names of a benchmark's results say; ``more`` tells them apart, too.

        >>> RestoringConfig(precision="bf16").words("sr")
        ('sr', 'synthetic', 'x4', 'bicubic', 'bf16')
        """
        faces, precision = self.faces, () if self.precision == "fp32" else (self.precision,)
        return benchmark, faces.dataset, f"x{faces.scale}", faces.protocol, *more, *precision


@dataclass
class SRBenchConfig(RestoringConfig):
    """Settings of ``facehall bench sr``."""

    relative_to: str | None = None
    """The row that differences and time ratios are to; the first one by default."""
    fsim_limit: Annotated[int, Ge(0)] = 200
    """Number of images on which FSIM, which is slow, is taken."""
    time_batch: Annotated[int, Ge(1)] = 1
    """Faces that are restored at once when time and memory are measured."""
    seconds: Annotated[float, Ge(0)] = 0.5
    """Least length of one measurement of time; 0 restores one batch."""
    repetitions: Annotated[int, Ge(1)] = 5
    """Measurements of each time, in turns; medians are reported."""
    memory: bool = True
    """Measure the peak memory, of each row in a process of its own."""
    attention_figure: bool = False
    """Draw the attention maps of the networks that have them."""
    figure_faces: Annotated[int, Ge(1)] = 3
    """Number of faces in the figure of attention maps."""


@dataclass
class JudgingConfig(RestoringConfig):
    """Which faces are restored by whom and cut out how; a benchmark adds who looks at them."""

    models: tuple[str, ...] = (BICUBIC,)
    """Rows of networks that restore whole faces, as for `facehall bench sr`: NAME, NAME=PATH."""
    align: Align = "landmarks"
    """landmarks: by dlib's points on the truth; none: the middle of the image, without dlib."""

    def __post_init__(self) -> None:
        """Adds the row bicubic, which is always there."""
        if BICUBIC not in self.models:
            self.models = (BICUBIC, *self.models)

    def check(self) -> None:
        """Refuses a row with the name of the true faces, too; see `RestoringConfig.check`."""
        super().check()
        if "truth" in (word.partition("=")[0] for word in (*self.models, *self.agents)):
            raise ConfigurationError("A row is called 'truth', as the true faces are: rename it.")


@dataclass
class IdentityBenchConfig(JudgingConfig):
    """Settings of ``facehall bench identity``."""

    faces: FacesSpec = field(default_factory=lambda: FacesSpec(dataset="lfw", scale=8))
    """The faces, of a dataset that knows who is on them."""
    limit: Annotated[int, Ge(1)] = 300
    """Matched pairs of each fold, and as many mismatched ones."""
    pairs: PairSource = "auto"
    """official: LFW's ten folds, of both halves of its split; drawn: of the test split, by the
    seed; auto: official for lfw, else drawn."""
    folds: Annotated[int, Ge(2)] = 10
    """Folds of drawn pairs; nobody is in two of them."""
    seed: Seed = 0
    """Seed of the pairs that are drawn and of the random agent."""
    recognisers: tuple[str, ...] = ("dlib",)
    """Who judges: dlib, or NAME=PATH such as mobilefacenet=PATH. Take others than those that the
    networks were trained with."""
    against: Literal["restored", "truth"] = "restored"
    """What a restored face is compared with: another one that was restored likewise, or the truth
    (a photograph in an archive)."""
    landmarks: bool = False
    """Also find the landmarks on the restored faces, and measure how far they are off."""

    def check(self) -> None:
        """Refuses no recogniser, or one twice, too; see `JudgingConfig.check`."""
        super().check()
        if not self.recognisers:
            raise ConfigurationError("--recognisers is empty: give at least one, such as dlib.")
        names = [text.partition("=")[0] for text in self.recognisers]
        if len(set(names)) < len(names):
            raise ConfigurationError(f"--recognisers {' '.join(names)}: give each one once.")

    @property
    def source(self) -> Literal["official", "drawn"]:
        """Where the pairs come from."""
        if self.pairs == "auto":
            return "official" if self.faces.dataset == "lfw" else "drawn"
        return self.pairs


@dataclass
class AttributesBenchConfig(JudgingConfig):
    """Settings of ``facehall bench attributes``."""

    faces: FacesSpec = field(default_factory=lambda: FacesSpec(dataset="celeba", scale=8))
    """The faces, of a dataset that knows their attributes: celeba, or synthetic to try."""
    train_limit: Annotated[int, Ge(1)] = 5000
    """Number of true training faces that the head is fitted to."""
    recogniser: str = "dlib"
    """Whose embeddings the head looks at: dlib, or NAME=PATH such as mobilefacenet=PATH."""
    head: Path | None = None
    """A head that --save-head has written, instead of one that is fitted; give it the recogniser
    and the alignment that it was fitted with."""
    save_head: Path | None = None
    """Write the head that was fitted to this file."""

    def check(self) -> None:
        """Refuses a head that is given and to be written, too, or written where a folder is."""
        super().check()
        if self.head and self.save_head:
            raise ConfigurationError(
                "--head takes a head that is there and --save-head writes one that was fitted: "
                "give one of them."
            )
        if self.save_head is not None and self.save_head.is_dir():
            raise ConfigurationError(
                f"--save-head {self.save_head} is a folder: name the file to write, such as "
                f"{self.save_head / 'head.safetensors'}."
            )
