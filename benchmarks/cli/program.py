"""The command line, ``facehall``.

Only the command that was asked for is imported, so that the help comes up at once.
"""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from facehall_env.errors import ConfigurationError, FacehallError
from facehall_env.registry import unknown_name

Config = TypeVar("Config")
BAD_INPUT, INTERRUPTED = 2, 130
OUT_OF_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Invocation:
    """What was typed.

    Attributes:
        words: The command, such as ``("bench", "throughput")``.
        arguments: What stands behind it.
        help: What the command does, for its help.
    """

    words: tuple[str, ...]
    arguments: Sequence[str]
    help: str

    @property
    def line(self) -> str:
        """The whole command line."""
        return shlex.join(["facehall", *self.words, *self.arguments])

    def parse(self, config: type[Config], default: Config | None = None) -> Config:
        """The settings of a command, as they stand in ``default`` unless they were given.

        Raises:
            SystemExit: With status 2 after naming what is wrong, with 0 after printing the help.
        """
        import tyro

        prog = " ".join(("facehall", *self.words))
        settings: Config = tyro.cli(
            config,
            prog=prog,
            description=self.help,
            args=self.arguments,
            config=(tyro.conf.OmitArgPrefixes,),
            # Left out where there is none: tyro takes None for a default.
            **cast("dict[str, Any]", {} if default is None else {"default": default}),
        )
        return settings


Command = Callable[[Invocation], None]


@dataclass
class NoConfig:
    """Settings of a command that has none."""


def demo(invocation: Invocation) -> None:
    """Restore drawn faces with every agent: a table, figures and a GIF in under a minute."""
    from facehall_env.benchmarks.apps.demo import DemoConfig, run

    run(invocation.parse(DemoConfig), invocation.line)


def enhance(invocation: Invocation) -> None:
    """Restore the faces of photographs patch by patch and put them back."""
    from facehall_env.benchmarks.apps.enhance import EnhanceConfig, run

    run(invocation.parse(EnhanceConfig))


def report(invocation: Invocation) -> None:
    """Put the results on disk into one HTML page: tables, curves and pictures."""
    from facehall_env.benchmarks.report import ReportConfig, run

    _written(run(invocation.parse(ReportConfig)))


def train_enhancer(invocation: Invocation) -> None:
    """Train a network that sharpens patches: fresh faces first, then staggered rollouts."""
    from facehall_env.training.enhancer import train_enhancer
    from facehall_env.training.settings import TrainEnhancerConfig

    _written(train_enhancer(invocation.parse(TrainEnhancerConfig)))


def train_sr(invocation: Invocation) -> None:
    """Train a network that restores whole faces, by default as its paper trains it."""
    from facehall_env.training.settings import TrainSRConfig
    from facehall_env.training.sr import train_sr

    _written(train_sr(invocation.parse(TrainSRConfig)))


def train_ensemble(invocation: Invocation) -> None:
    """Put trained networks together into one that averages their results."""
    from facehall_env.training.ensemble import make_ensemble
    from facehall_env.training.settings import EnsembleConfig

    _written(make_ensemble(invocation.parse(EnsembleConfig)))


def train_cognition(invocation: Invocation) -> None:
    """Train the recogniser of the IPFH paper, SphereFace-20 with A-softmax, on faces with names."""
    from facehall_env.training.cognition import train_cognition
    from facehall_env.training.settings import TrainCognitionConfig

    _written(train_cognition(invocation.parse(TrainCognitionConfig)))


def train_sparnet_hd(invocation: Invocation) -> None:
    """Train SPARNetHD on faces of 512 pixels: a generator against discriminators."""
    from facehall_env.training.settings import TrainSPARNetHDConfig
    from facehall_env.training.sparnet_hd import train_sparnet_hd

    _written(train_sparnet_hd(invocation.parse(TrainSPARNetHDConfig)))


def train_ipfh(invocation: Invocation) -> None:
    """Train all of IPFH in order: coarse hallucinator, cognition, restorer, controller.

    --initial, --cognition and --enhancer-weights give what is trained already; --resume goes on in
    whatever stage was interrupted; --without leaves parts out, as Table IX does.
    """
    from facehall_env.agents.ipfh.stages import train_ipfh
    from facehall_env.agents.settings import TrainIPFHConfig

    _written(train_ipfh(invocation.parse(TrainIPFHConfig)))


def train_agent(invocation: Invocation) -> None:
    """Train a policy that chooses the patches; with --joint the enhancer, too.

    --algo names the algorithm: reinforce (the default), qmap, dagger (a warm start for reinforce,
    given to its --init), ppo, recurrent_ppo, maskable_ppo, a2c or dqn of Stable-Baselines3, or
    rllib-ppo; each has settings of its own (--algo ppo --help).
    """
    algorithm, invocation = _choose(invocation, "--algo", "reinforce", tuple(TRAINERS))
    TRAINERS[algorithm](invocation, algorithm)


def _train_reinforce(invocation: Invocation, algorithm: str) -> None:
    from facehall_env.agents.reinforce.training import train_agent
    from facehall_env.agents.settings import TrainAgentConfig

    _written(train_agent(invocation.parse(TrainAgentConfig)))


def _train_dagger(invocation: Invocation, algorithm: str) -> None:
    from facehall_env.agents.dagger import train_dagger
    from facehall_env.agents.settings import TrainDaggerConfig

    _written(train_dagger(invocation.parse(TrainDaggerConfig)))


def _train_qmap(invocation: Invocation, algorithm: str) -> None:
    from facehall_env.agents.qmap.training import train_qmap
    from facehall_env.agents.settings import TrainQMapConfig

    _written(train_qmap(invocation.parse(TrainQMapConfig)))


def _train_sb3(invocation: Invocation, algorithm: str) -> None:
    from facehall_env.agents.integrations.sb3_policies import hyperparameters
    from facehall_env.agents.integrations.sb3_training import train_sb3
    from facehall_env.agents.settings import TrainSB3Config

    tuned = ", ".join(f"{name}={value}" for name, value in hyperparameters(algorithm).items())
    help_ = f"{invocation.help}\n\nHyperparameters of {algorithm}: {tuned}."
    config = replace(invocation, help=help_).parse(TrainSB3Config, TrainSB3Config(algo=algorithm))
    _written(train_sb3(config))


def _train_rllib(invocation: Invocation, algorithm: str) -> None:
    from facehall_env.agents.integrations.rllib_training import train_rllib
    from facehall_env.agents.settings import TrainRLlibConfig

    _written(train_rllib(invocation.parse(TrainRLlibConfig)))


SB3_ALGORITHMS = ("ppo", "recurrent_ppo", "maskable_ppo", "a2c", "dqn")
TRAINERS: dict[str, Callable[[Invocation, str], None]] = {
    "reinforce": _train_reinforce,
    "qmap": _train_qmap,
    "dagger": _train_dagger,
    **dict.fromkeys(SB3_ALGORITHMS, _train_sb3),
    "rllib-ppo": _train_rllib,
}
"""What trains an agent, by the name of the algorithm."""


def train_static(invocation: Invocation) -> None:
    """Fit one sequence of patches for all faces, greedily on training images."""
    from facehall_env.agents.fixed.static_training import train_static
    from facehall_env.agents.settings import TrainStaticConfig

    _written(train_static(invocation.parse(TrainStaticConfig)))


def bench_patch_selection(invocation: Invocation) -> None:
    """Compare the agents on the same test images and enhancer: how much is looking well worth?"""
    from facehall_env.benchmarks.quality.patch_selection import PatchSelectionConfig, run

    run(invocation.parse(PatchSelectionConfig), invocation.line)


def bench_sr(invocation: Invocation) -> None:
    """Compare networks that restore whole faces: quality, parameters, GMACs, time and memory."""
    from facehall_env.benchmarks.quality.sr import SRBenchConfig, run

    run(invocation.parse(SRBenchConfig), invocation.line)


def bench_identity(invocation: Invocation) -> None:
    """Ask recognisers whether restored faces are still the same people: LFW's pairs, rank-1."""
    from facehall_env.benchmarks.quality.identity import IdentityBenchConfig, run

    run(invocation.parse(IdentityBenchConfig), invocation.line)


def bench_attributes(invocation: Invocation) -> None:
    """Ask whether one still sees who smiles: attributes told from restored faces' embeddings."""
    from facehall_env.benchmarks.quality.attributes import AttributesBenchConfig, run

    run(invocation.parse(AttributesBenchConfig), invocation.line)


def bench_attention_fh(invocation: Invocation) -> None:
    """Make a table of Attention-FH (Cao et al., CVPR 2017) anew: ours beside the paper's numbers.

    --list shows which there are; docs/tables.md says what the rows are and how to add tables.
    """
    _bench_paper(invocation, "attention-fh")


def bench_sparnet(invocation: Invocation) -> None:
    """Make a table or figure of SPARNet (Chen et al., TIP 2020) anew, beside the paper's numbers.

    --list shows which there are; docs/tables.md says what the rows are and how to add tables.
    """
    _bench_paper(invocation, "sparnet")


def bench_sisn(invocation: Invocation) -> None:
    """Make a table or figure of SISN (Lu et al., ACM MM 2021) anew, beside the paper's numbers.

    --list shows which there are; docs/tables.md says what the rows are and how to add tables.
    """
    _bench_paper(invocation, "sisn")


def bench_ipfh(invocation: Invocation) -> None:
    """Make a table of IPFH anew: ours beside the paper's numbers.

    --list shows which there are; docs/tables.md says what the rows are and how to add tables.
    """
    _bench_paper(invocation, "ipfh")


def _bench_paper(invocation: Invocation, paper: str) -> None:
    from facehall_env.benchmarks.papers.engine import PaperConfig, run

    run(paper, invocation.parse(PaperConfig), invocation.line)


def bench_results(invocation: Invocation) -> None:
    """Collect the papers' tables on disk in one page, with the orders that hold and do not."""
    from facehall_env.benchmarks.papers.results_page import ResultsPageConfig, run

    run(invocation.parse(ResultsPageConfig))


def bench_throughput(invocation: Invocation) -> None:
    """Measure how fast the environments step and the networks restore, as ratios of one run."""
    from facehall_env.benchmarks.speed.throughput import ThroughputConfig, run

    run(invocation.parse(ThroughputConfig), invocation.line)


def bench_profile(invocation: Invocation) -> None:
    """Show where the time of one REINFORCE update goes: policy, enhancer, environment, other."""
    from facehall_env.benchmarks.speed.update_profile import ProfileConfig, run

    run(invocation.parse(ProfileConfig), invocation.line)


def bench_network(invocation: Invocation) -> None:
    """Measure what a whole-face network costs beside its convolutions, as a ratio of one run."""
    from facehall_env.benchmarks.speed.network_speed import NetworkSpeedConfig, run

    run(invocation.parse(NetworkSpeedConfig), invocation.line)


def bench_training_memory(invocation: Invocation) -> None:
    """Measure what an update of SPARNetHD takes, with and without gradient checkpointing."""
    from facehall_env.benchmarks.speed.training_memory import TrainingMemoryConfig, run

    run(invocation.parse(TrainingMemoryConfig), invocation.line)


def data_list(invocation: Invocation) -> None:
    """List the datasets and where their images are."""
    invocation.parse(NoConfig)
    from facehall_env.benchmarks.apps.datasets import list_datasets

    list_datasets()


def data_check(invocation: Invocation) -> None:
    """Read every image of a dataset and name those that cannot be used."""
    from facehall_env.benchmarks.apps.datasets import CheckConfig, check

    check(invocation.parse(CheckConfig))


def data_prepare(invocation: Invocation) -> None:
    """Detect the faces on a folder of photographs, cut them out and resize them."""
    from facehall_env.benchmarks.apps.datasets import prepare_faces
    from facehall_env.photos.settings import PrepareConfig

    prepare_faces(invocation.parse(PrepareConfig))


def mos_build(invocation: Invocation) -> None:
    """Make a page on which people rate restored faces blindly, from 1 to 5."""
    from facehall_env.benchmarks.apps.mos import MosBuildConfig, build

    build(invocation.parse(MosBuildConfig))


def mos_score(invocation: Invocation) -> None:
    """Mean opinion scores, with intervals, from the files that raters have saved."""
    from facehall_env.benchmarks.apps.mos import MosScoreConfig, score

    score(invocation.parse(MosScoreConfig))


@dataclass(frozen=True)
class Group:
    """Commands under one word."""

    help: str
    commands: Mapping[str, Command | Group]


COMMANDS = Group(
    "Restoring faces patch by patch: train and compare agents that choose where to look.",
    {
        "demo": demo,
        "enhance": enhance,
        "report": report,
        "train": Group(
            "Train an enhancer or an agent.",
            {
                "enhancer": train_enhancer,
                "sr": train_sr,
                "ensemble": train_ensemble,
                "sparnet-hd": train_sparnet_hd,
                "cognition": train_cognition,
                "ipfh": train_ipfh,
                "agent": train_agent,
                "static": train_static,
            },
        ),
        "bench": Group(
            "Run a benchmark: a table on the terminal, results on disk.",
            {
                "patch-selection": bench_patch_selection,
                "sr": bench_sr,
                "attention-fh": bench_attention_fh,
                "ipfh": bench_ipfh,
                "sparnet": bench_sparnet,
                "sisn": bench_sisn,
                "results": bench_results,
                "identity": bench_identity,
                "attributes": bench_attributes,
                "throughput": bench_throughput,
                "profile": bench_profile,
                "network": bench_network,
                "training-memory": bench_training_memory,
            },
        ),
        "mos": Group("Have people rate restored faces.", {"build": mos_build, "score": mos_score}),
        "data": Group(
            "Look after the datasets.",
            {"list": data_list, "check": data_check, "prepare": data_prepare},
        ),
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: The words after ``facehall``; those of the process by default.

    Returns:
        Exit status: 0, 2 after bad input (one sentence on the standard error), or 130 after an
        interrupt.
    """
    try:
        _dispatch(COMMANDS, (), list(sys.argv[1:] if arguments is None else arguments))
    except FacehallError as error:
        _complain(str(error))
        return BAD_INPUT
    except OSError as error:
        if error.filename is not None:
            _complain(f"{error.filename}: {error.strerror}.")
        elif error.errno in OUT_OF_ROOM:
            _complain(
                f"could not write ({error.strerror}): free some space, or choose another --out; "
                "what was there before is as it was."
            )
        else:
            raise
        return BAD_INPUT
    except KeyboardInterrupt:
        _complain(
            "interrupted; what was finished is kept: the same command goes on with a benchmark, "
            "--resume with a training run."
        )
        return INTERRUPTED
    return 0


def _choose(
    invocation: Invocation, option: str, default: str, known: Sequence[str]
) -> tuple[str, Invocation]:
    """The value of an option that decides which others there are, and what was typed without it.

    Raises:
        UnknownNameError: If the value is none of those known.
        ConfigurationError: If there is no value.
    """
    rest: list[str] = []
    words = iter(invocation.arguments)
    chosen: str | None = default
    for word in words:
        name, separator, value = word.partition("=")
        if name == option:
            chosen = value if separator else next(words, None)
        else:
            rest.append(word)
    if chosen is None:
        raise ConfigurationError(f"{option} has no value: give one of {', '.join(known)}.")
    if chosen not in known:
        raise unknown_name(f"value of {option}", chosen, known)
    return chosen, replace(invocation, arguments=rest)


def _dispatch(group: Group, words: tuple[str, ...], arguments: list[str]) -> None:
    if not arguments or arguments[0] not in group.commands:
        _parse_group(group, words, arguments or ["--help"])
        return
    chosen = group.commands[arguments[0]]
    words, arguments = (*words, arguments[0]), arguments[1:]
    if isinstance(chosen, Group):
        _dispatch(chosen, words, arguments)
    else:
        chosen(Invocation(words, arguments, chosen.__doc__ or ""))


def _parse_group(group: Group, words: tuple[str, ...], arguments: list[str]) -> None:
    """Has tyro print the help of a group, or what is wrong with its arguments."""
    import tyro

    stubs = {name: _stub(command) for name, command in group.commands.items()}
    tyro.extras.subcommand_cli_from_dict(
        stubs, prog=" ".join(("facehall", *words)), description=group.help, args=arguments
    )


def _stub(command: Command | Group) -> Callable[[], None]:
    def stub() -> None:
        pass

    stub.__doc__ = command.help if isinstance(command, Group) else command.__doc__
    return stub


def _written(path: object) -> None:
    sys.stdout.write(f"written: {path}\n")


def _complain(sentence: str) -> None:
    sys.stderr.write(f"facehall: {sentence}\n")
