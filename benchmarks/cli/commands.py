"""The commands of ``facehall``: one table, whose entries are imported when they are called."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Command:
    """A command of the program.

    Attributes:
        help: What it does; the first line stands in the list of commands.
        places: Where it is: a package, the dataclass of its options in the package's light module
            ``settings``, and, as ``module:function``, what does it. The function takes the
            settings and, if it has a parameter ``command``, what was typed. A path that it returns
            is printed.
        positional: Names of the settings that are given without an option's name.
        preset: Values of settings that the command's name decides.
        more: Gives a further paragraph of the help.
    """

    help: str
    places: str
    positional: tuple[str, ...] = ()
    preset: Mapping[str, Any] = field(default_factory=dict)
    more: Callable[[], str] = str

    @property
    def settings(self) -> str:
        """The dataclass of its options, ``"module:Class"``."""
        package, name, _ = self.places.split()
        return f"{package}.settings:{name}"

    @property
    def run(self) -> str:
        """The function that does it, ``"module:function"``."""
        package, _, place = self.places.split()
        return f"{package}.{place}"


def load(place: str) -> Any:
    """What stands at ``"module:attribute"`` below `facehall_env`."""
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(f"facehall_env.{module}"), attribute)


def hyperparameters(algorithm: str) -> str:
    """A sentence with the hyperparameters of an algorithm of Stable-Baselines3."""
    folder = resources.files("facehall_env.agents").joinpath("hyperparameters")
    tuned = json.loads(folder.joinpath(f"{algorithm}.json").read_text(encoding="utf-8"))
    listed = ", ".join(f"{name}={value}" for name, value in tuned.items())
    return f"Hyperparameters of {algorithm}: {listed}."


def _sb3(algorithm: str, title: str) -> Command:
    return Command(
        f"Train with {title}.",
        "agents TrainSB3Config integrations.sb3_training:train_sb3",
        preset={"algo": algorithm},
        more=lambda: hyperparameters(algorithm),
    )


GROUPS = {
    "": "Restoring faces patch by patch: train and compare agents that choose where to look.",
    "train": "Train a network or an agent.",
    "train agent": "Train a policy that chooses the patches, with one of these algorithms.",
    "bench": "Run a benchmark: a table on the terminal, results on disk.",
    "profile": "Measure time and memory.",
    "mos": "Have people rate restored faces.",
    "data": "Look after the datasets.",
}
"""What the commands below a word have in common."""

COMMANDS = {
    "demo": Command(
        "Restore drawn faces with every agent: a table, figures and a GIF in under a minute.",
        "benchmarks.apps DemoConfig demo:run",
    ),
    "enhance": Command(
        "Restore the faces of photographs patch by patch and put them back.",
        "benchmarks.apps EnhanceConfig enhance:run",
        positional=("photos",),
    ),
    "report": Command(
        "Put the results on disk into one HTML page, or the papers' tables into one of Markdown.",
        "benchmarks.report ReportConfig page:run",
    ),
    "train sr": Command(
        "Train a network that restores whole faces, by default as its paper trains it.",
        "training TrainSRConfig sr:train_sr",
    ),
    "train enhancer": Command(
        "Train a network that sharpens patches: fresh faces first, then staggered rollouts.",
        "training TrainEnhancerConfig enhancer:train_enhancer",
    ),
    "train ensemble": Command(
        "Put trained networks together into one that averages their results.",
        "training EnsembleConfig ensemble:make_ensemble",
    ),
    "train cognition": Command(
        "Train IPFH's recogniser, SphereFace-20 with A-softmax, on faces with names.",
        "training TrainCognitionConfig cognition:train_cognition",
    ),
    "train sparnet-hd": Command(
        "Train SPARNetHD on faces of 512 pixels: a generator against discriminators.",
        "training TrainSPARNetHDConfig sparnet_hd:train_sparnet_hd",
    ),
    "train ipfh": Command(
        "Train all of IPFH in order: coarse hallucinator, cognition, restorer, controller.\n\n"
        "--initial, --cognition and --weights give what is trained already; --resume goes on in "
        "whatever stage was interrupted; --without leaves parts out, as Table IX does.",
        "agents TrainIPFHConfig ipfh.stages:train_ipfh",
    ),
    "train agent reinforce": Command(
        "Train with REINFORCE; with --joint the enhancer, too.",
        "agents TrainAgentConfig reinforce.training:train_agent",
    ),
    "train agent qmap": Command(
        "Train a network that predicts the gain of every location.",
        "agents TrainQMapConfig qmap.training:train_qmap",
    ),
    "train agent dagger": Command(
        "Imitate the oracle (DAgger): a warm start, given to the --init of reinforce.",
        "agents TrainDaggerConfig dagger:train_dagger",
    ),
    "train agent static": Command(
        "Fit one sequence of patches for all faces, greedily on training images.",
        "agents TrainStaticConfig fixed.static_training:train_static",
    ),
    "train agent ppo": _sb3("ppo", "PPO of Stable-Baselines3"),
    "train agent recurrent_ppo": _sb3("recurrent_ppo", "RecurrentPPO of sb3-contrib"),
    "train agent maskable_ppo": _sb3("maskable_ppo", "MaskablePPO of sb3-contrib"),
    "train agent a2c": _sb3("a2c", "A2C of Stable-Baselines3"),
    "train agent dqn": _sb3("dqn", "DQN of Stable-Baselines3"),
    "train agent rllib-ppo": Command(
        "Train with PPO of Ray's RLlib, on one machine or a cluster.",
        "agents TrainRLlibConfig integrations.rllib_training:train_rllib",
    ),
    "bench patch-selection": Command(
        "Compare the agents on the same test images and enhancer: how much is looking well worth?",
        "benchmarks.quality PatchSelectionConfig patch_selection:run",
    ),
    "bench sr": Command(
        "Compare networks that restore whole faces: quality, parameters, GMACs, time and memory.",
        "benchmarks.quality SRBenchConfig sr:run",
    ),
    "bench identity": Command(
        "Ask recognisers whether restored faces are still the same people: LFW's pairs, rank-1.",
        "benchmarks.quality IdentityBenchConfig identity:run",
    ),
    "bench attributes": Command(
        "Ask whether one still sees who smiles: attributes told from restored faces' embeddings.",
        "benchmarks.quality AttributesBenchConfig attributes:run",
    ),
    "bench paper": Command(
        "Make a table or figure of a paper anew: ours beside the paper's numbers.",
        "benchmarks.papers PaperConfig engine:run",
        positional=("experiment",),
    ),
    "profile envs": Command(
        "Measure how fast the environments step and the networks restore, as ratios of one run.",
        "benchmarks.speed EnvsConfig envs:run",
    ),
    "profile network": Command(
        "Measure what a whole-face network costs beside its convolutions, as a ratio of one run.",
        "benchmarks.speed NetworkConfig network:run",
    ),
    "profile update": Command(
        "Show where the time of one REINFORCE update goes: policy, enhancer, environment, other.",
        "benchmarks.speed UpdateConfig update:run",
    ),
    "profile memory": Command(
        "Measure what an update of SPARNetHD takes, with and without gradient checkpointing.",
        "benchmarks.speed MemoryConfig memory:run",
    ),
    "mos build": Command(
        "Make a page on which people rate restored faces blindly, from 1 to 5.",
        "benchmarks.apps MosBuildConfig mos_page:build",
    ),
    "mos score": Command(
        "Mean opinion scores, with intervals, from the files that raters have saved.",
        "benchmarks.apps MosScoreConfig mos_scores:score",
        positional=("key", "ratings"),
    ),
    "data check": Command(
        "List the datasets and where they are, or read every image of one.",
        "benchmarks.apps DataCheckConfig datasets:check",
        positional=("dataset",),
    ),
    "data prepare": Command(
        "Detect the faces on a folder of photographs, cut them out and resize them.",
        "benchmarks.apps PrepareConfig datasets:prepare_faces",
        positional=("src", "out"),
    ),
}
"""All commands by the words that are typed."""
