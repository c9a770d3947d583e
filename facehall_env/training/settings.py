"""Options of the commands that train networks.

| command ``train ...`` | settings | function in ``facehall_env.training`` |
|---|---|---|
| ``sr`` | `TrainSRConfig` | ``sr:train_sr`` |
| ``enhancer`` | `TrainEnhancerConfig` | ``enhancer:train_enhancer`` |
| ``ensemble`` | `EnsembleConfig` | ``ensemble:make_ensemble`` |
| ``cognition`` | `TrainCognitionConfig` | ``cognition:train_cognition`` |
| ``sparnet-hd`` | `TrainSPARNetHDConfig` | ``sparnet_hd:train_sparnet_hd`` |

The help of an option stands behind it, or below it where it is long or the option has another
default in a subclass (where help behind it would not be found).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from facehall_env.limits import Ge, Gt, Le, Lt, Seed
from facehall_env.literals import (
    Augmentation,
    ChannelOrder,
    FaceLoss,
    Loss,
    Optimizer,
    Pooling,
    Precision,
    Schedule,
)
from facehall_env.spec import EpisodeSpec, FacesSpec

Count = Annotated[int, Ge(1)]
NaturalNumber = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Decay = Annotated[float, Ge(0), Lt(1)]
Betas = tuple[Decay, Decay]


@dataclass
class RunConfig:
    """Options of every training that has a folder for its run."""

    out: Path = Path("runs/training")  # Folder for the log, the checkpoint and the weights.
    validate_every: Count = 500
    """Updates between measurements on the held-out faces."""
    checkpoint_every: Count = 250
    """Updates between checkpoints."""
    seed: Seed = 0  # Seed of everything that is drawn.
    resume: bool = False  # Continue the run in the folder exactly where its checkpoint stands.


@dataclass
class LoopConfig(RunConfig):
    """Options of every training that is made of our own updates."""

    minutes: Positive | None = None
    """Length of the training in wall time instead of updates; schedules follow the time."""
    log_every: Count = 100
    """Updates between entries in the log."""


@dataclass
class SharedConfig(LoopConfig):
    """Options of every training that several devices can share."""

    devices: Count = 1  # Devices, or processes on the CPU, that share each batch.
    num_nodes: Count = 1  # Machines with this many devices each.


@dataclass
class HeldOutConfig:
    """Options of every training that holds some of its faces out."""

    limit: Count | None = None  # Use only this many faces of the training split.
    validation_faces: Count = 32
    """Faces of the training split that are held out to watch the progress."""


@dataclass
class DatasetConfig:
    """Options of every training that degrades its faces in a way of its own, or not at all."""

    dataset: str = "synthetic"
    """Where the faces come from; always the official training split."""
    dataset_settings: tuple[str, ...] = ()
    """Options of the dataset as NAME=VALUE, such as size=256."""
    device: str = "cpu"  # Device that trains: cpu, cuda, cuda:1, ...


@dataclass
class EpisodeConfig:
    """Options of every training on episodes."""

    episode: EpisodeSpec = field(default_factory=EpisodeSpec)
    """The episodes; their faces are always of the official training split."""

    @property
    def device(self) -> str:
        """Device that trains."""
        return self.episode.device


@dataclass
class TrainSRConfig(HeldOutConfig, SharedConfig):
    """Settings of ``facehall train sr``."""

    enhancer: str = "light"  # Name of the network, such as light, srcnn, vdsr, sisn or sparnet.
    faces: FacesSpec = field(default_factory=FacesSpec)
    """The faces, always of the official training split; the protocol is what the held-out PSNR and
    SSIM follow, too."""
    device: str = "cpu"  # Device that trains: cpu, cuda, cuda:1, ...
    enhancer_settings: tuple[str, ...] = ()
    """Settings of the network as NAME=VALUE, the value as in JSON or a word, such as width=32; they
    are stored with its weights."""
    out: Path = Path("runs/sr")
    """Folder for the log, the checkpoint, samples/STEP.png, and the weights: enhancer.safetensors
    after the last update, and best.safetensors, those with the best held-out PSNR."""
    weights: Path | None = None  # Start from these weights instead of from scratch.
    updates: Count = 20_000  # Length of the training.
    batch: Count | None = None  # Faces in an update; by default as in the recipe.
    learning_rate: Positive | None = None
    """Highest learning rate; by default as in the recipe."""
    optimizer: Optimizer | None = None
    """Adam, or Muon for the matrices inside the network and Adam for the rest; by default as in the
    recipe."""
    betas: Betas | None = None  # Momenta of Adam; by default as in the recipe.
    loss: Loss | None = None  # Loss on the pixels; by default as in the recipe.
    late_loss: FaceLoss | None = None
    """Loss of the last updates: psnr is the mean of the decibels themselves (of whole faces in
    RGB); by default the same loss throughout."""
    late_share: Share = 0.3  # Share of the updates that have the late loss.
    schedule: Schedule | None = None
    """The learning rate follows half a cosine, is halved in steps, or is constant; by default as in
    the recipe."""
    step_updates: Count | None = None
    """Updates between two steps of the step schedule; by default as in the recipe."""
    warm_up: NaturalNumber = 0  # Updates over which the learning rate first rises.
    augment: tuple[Augmentation, ...] | None = None
    """How faces are varied: mirrored (flip), enlarged by up to 1.3 and cropped (scale), turned by
    quarters (rotate); by default as in the recipe."""
    window: Count | None = None
    """Train on squares of this side, cut out of faces that the dataset shows with more around them
    (--dataset-settings size=154); held-out faces are cut from the middle."""
    shift: NaturalNumber = 0
    """Distance in pixels by which the window of a training face is moved from the middle at most,
    in each direction."""
    ema: Decay = 0.999
    """Decay of the moving average of the weights, which is validated and saved; 0 saves the weights
    themselves."""
    precision: Precision = "fp32"
    """bf16 computes in bfloat16 where that is safe (autocast); weights stay in float32."""
    grad_clip: NotNegative = 1.0  # Largest norm of the gradient; 0 for no limit.


@dataclass
class TrainEnhancerConfig(EpisodeConfig, HeldOutConfig, SharedConfig):
    """Settings of ``facehall train enhancer``."""

    episode: EpisodeSpec = field(
        default_factory=lambda: EpisodeSpec(weights=None, reward="delta_mse")
    )
    """The episodes. With the locations of the agents that will choose, an enhancer sees what it
    will see later: cells of a compact network that are restored as a whole or not at all."""
    enhancer_settings: tuple[str, ...] = ()
    """Settings of the network as NAME=VALUE, the value as in JSON or a word, such as
    convolution=fourier; they are stored with its weights."""
    out: Path = Path("runs/enhancer")
    """Folder for the log, the checkpoint and the weights (enhancer.safetensors)."""
    fresh_updates: NaturalNumber = 4000
    """Updates of the first stage, on untouched faces. With --minutes, the updates of both stages
    say how they share the time."""
    fresh_batch: Count = 8  # Faces in an update of the first stage.
    fresh_on: Literal["faces", "patches"] = "faces"
    """Learn from whole faces (networks that can) or from one random patch of each."""
    fresh_own_patches: NaturalNumber = 8
    """Before the network learns from a whole face, up to this many of its patches are replaced by
    the network's own restoration, so that it learns to tell restored cells from others."""
    fresh_learning_rate: Positive = 1e-3
    """Highest learning rate of the first stage; it follows a cosine down to a fiftieth."""
    rollout_updates: NaturalNumber = 2000
    """Updates of the second stage, on staggered rollouts of --steps patches."""
    rollout_envs: Count = 32  # Faces that are restored at the same time in the second stage.
    rollout_learning_rate: Positive = 4e-4
    """Highest learning rate of the second stage; it follows a cosine down to a fiftieth."""
    loss: Loss = "charbonnier"  # Loss on the pixels of the patch that lie in the image.
    beta1: Decay = 0.9  # First momentum of Adam; the paper has 0.5.
    grad_clip: NotNegative = 1.0  # Largest norm of the gradient; 0 for no limit.


@dataclass
class EnsembleConfig:
    """Settings of ``facehall train ensemble``."""

    members: tuple[str, ...] = ("light",)
    """Networks that restore whole faces: names, with the weights that come with the project, or
    files of weights."""
    mirror: bool = True  # Let each network restore the mirrored face, too.
    dataset: str = "lfw"
    """What weights that come with the project should be trained on."""
    scale: Count = 4  # Factor between the low and the high resolution.
    out: Path = Path("runs/ensemble.safetensors")  # File for the weights of all of them.


@dataclass
class TrainCognitionConfig(DatasetConfig, SharedConfig):
    """Settings of ``facehall train cognition``.

    The paper's network is ``--width 64 --embedding 512 --batch 256 --people None``; the defaults
    are what a processor can train. Synthetic faces have images_per_person=10 unless it is given.
    """

    out: Path = Path("runs/cognition")
    """Folder for the log, the checkpoint, and the networks: cognition.safetensors after the last
    update, and best.safetensors, the one with the best held-out accuracy."""
    weights: Path | None = None
    """Start from these weights of the recogniser, ours or published ones; they may have been
    trained on other people."""
    frozen: bool = False
    """Leave the recogniser of --weights as it is: it embeds every face once, without --augment, and
    then only the head learns from these embeddings."""
    min_images: Annotated[int, Ge(2)] = 3  # People with fewer images are left out.
    people: Annotated[int, Ge(2)] | None = 1000
    """Use at most this many of the people who have enough images, since all their faces are held in
    memory; None for all of them."""
    recogniser: str = "sphereface"  # sphereface, mobilefacenet, or one that was registered.
    width: Count = 16  # Channels of the first stage of sphereface; they double from stage to stage.
    embedding: Count = 128  # Values of an embedding of sphereface, with --pooling fc.
    pooling: Pooling = "fc"
    """How the features of sphereface become an embedding: by a fully-connected layer (fc) or their
    means (gap)."""
    channel_order: ChannelOrder | None = None
    """Order in which the network takes the channels; SphereFace's published weights expect bgr. By
    default as the file of --weights says, or else as the recogniser has it: rgb."""
    margin: Annotated[float, Ge(1)] = 1.5  # Angular margin m of A-softmax.
    updates: Count = 2000  # Length of the training.
    batch: Count = 64  # Faces in an update.
    learning_rate: Positive = 0.1  # Learning rate of SGD at the start.
    momentum: Decay = 0.9  # Momentum of SGD.
    weight_decay: NotNegative = 5e-4  # Weight decay of SGD, on all weights.
    milestones: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.5, 0.75, 0.9)
    """Shares of the training after which the learning rate falls to its tenth: 10, 15 and 18 of
    20 epochs."""
    augment: tuple[Augmentation, ...] = ("flip",)
    """How faces are varied: mirrored (flip), enlarged by up to 1.3 and cropped (scale), turned by
    quarters (rotate)."""
    grad_clip: NotNegative = 1.0
    """Largest norm of the gradient; 0 for no limit. Without a limit a network that has no
    normalisation diverges at this learning rate."""
    validation_people: Count = 100
    """At most this many people have one image each held out, to watch the accuracy."""
    log_every: Count = 50
    validate_every: Count = 200
    checkpoint_every: Count = 200


@dataclass(frozen=True)
class LossWeights:
    """Factors of the parts of the generator's loss (SPARNetHD, eq. 12)."""

    pixel_weight: NotNegative = 100.0
    """Weight of the mean absolute difference of the pixels (eq. 6), in [0, 1]."""
    adversarial_weight: NotNegative = 1.0  # Weight of the generator's hinge loss (eq. 8).
    matching_weight: NotNegative = 10.0  # Weight of the discriminators' feature matching (eq. 10).
    perceptual_weight: NotNegative = 1.0
    """Weight of the features of VGG19 (eq. 11); 0 needs no VGG19."""


@dataclass
class TrainSPARNetHDConfig(DatasetConfig, HeldOutConfig, SharedConfig):
    """Settings of ``facehall train sparnet-hd``; the defaults are the paper's."""

    out: Path = Path("runs/sparnet-hd")
    """Folder for the log, the checkpoint, samples/STEP.png and the weights
    (enhancer.safetensors)."""
    dataset: str = "ffhq"
    dataset_settings: tuple[str, ...] = ("size=512",)
    enhancer_settings: tuple[str, ...] = ()
    """Settings of the generator as NAME=VALUE, such as width=64; they are stored with its
    weights."""
    degradation: str = "paper"
    """How faces are degraded: the ranges of the paper (paper), or each part at random and with grey
    faces (released)."""
    weights: Path | None = None  # Start from these weights of a generator instead of from scratch.
    updates: Count = 100_000  # Length of the training.
    batch: Count = 2  # Faces in an update.
    learning_rate: Positive = 1e-4  # Learning rate of the generator's Adam.
    discriminator_learning_rate: Positive = 4e-4  # Learning rate of the discriminators' Adam.
    betas: Betas = (0.5, 0.99)  # Momenta of both.
    ema: Annotated[float, Gt(0), Lt(1)] = 0.999
    """Decay of the moving average of the generator's weights, which is validated and saved."""
    loss: LossWeights = field(default_factory=LossWeights)
    """Weights of the parts of the generator's loss."""
    vgg19: Path | None = None
    """Weights of VGG19 on ImageNet, .safetensors or .pth; see docs/perceptual.md."""
    discriminators: Count = 3
    """Number of discriminators, each on faces half as large as the one before."""
    discriminator_channels: tuple[Count, ...] = (64, 128, 256, 512, 512)
    """Channels of the layers of each."""
    recompute: bool = False
    """Gradient checkpointing: much less memory for more time, with the same gradients."""
    validation_faces: Count = 8
    validate_every: Count = 1000
    checkpoint_every: Count = 1000
