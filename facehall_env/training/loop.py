"""The loop around the updates of a trainer: progress, log, validation, checkpoints, the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from facehall_env.progress import progress
from facehall_env.training.budget import Budget
from facehall_env.training.distributed import Team, launch
from facehall_env.training.run import TrainingRun
from facehall_env.training.settings import LoopConfig, SharedConfig
from facehall_env.training.trainer import Trainer


def train(
    trainer: Callable[[Any, Team], Trainer], config: LoopConfig, directory: Path | None = None
) -> Path:
    """Trains in the folder of a run, on one device or on several.

    Args:
        trainer: What makes the updates.
        config: Its settings.
        directory: Folder of the run; that of the settings by default.

    Returns:
        Path of what the training is for.

    Raises:
        ConfigurationError: If the settings contradict each other or the folder's run.
        EnhancerError: If a loss, a gradient or a result is not finite.
        MissingExtraError: If several devices are asked for without Lightning Fabric.
        WeightsError: If the weights to start from cannot be used.
    """
    work = partial(train_share, trainer=trainer, directory=directory or config.out)
    shared: Any = config if isinstance(config, SharedConfig) else None
    return work(config, Team()) if shared is None else launch(work, shared)


def train_share(
    config: LoopConfig, team: Team, *, trainer: Callable[[Any, Team], Trainer], directory: Path
) -> Path:
    """What one of the processes does; the one that leads writes."""
    with TrainingRun(directory, config, config.resume, writes=team.leads) as run:
        training = trainer(config, team)
        try:
            scores = fit(run, training, config.minutes)
            if team.leads:
                training.finish(run, scores)
        finally:
            training.close()
    return run.directory / training.result_file


def fit(run: TrainingRun, trainer: Trainer, minutes: float | None = None) -> dict[str, float]:
    """Trains from where the run stands to the end.

    A resumed run goes on from its checkpoint; ``minutes`` is the wall time of the training, None
    for the trainer's own number of updates.

    Returns:
        Scores of the last weights in the process that leads, none in the others.

    Raises:
        ConfigurationError: If several processes would measure the time.
    """
    leads, config = trainer.team.leads, trainer.config
    checkpoint = run.restore()
    before: Mapping[str, Any] = {}
    if checkpoint is not None:
        trainer.restore(*checkpoint)
        before = checkpoint[2]
    budget = Budget(minutes, before.get("spent", 0.0), trainer.team.size)
    scores: dict[str, float] = before.get("scores", {})
    total = trainer.plan(budget)
    with progress(total=total, initial=trainer.step, desc=trainer.title, disable=not leads) as bar:
        while trainer.step < total:
            values = trainer.update()
            bar.total = total = trainer.plan(budget)
            bar.update()
            last = trainer.step == total
            if leads and (last or trainer.step % config.validate_every == 0):
                scores = trainer.evaluate(run)
                run.log(trainer.step, scores)
                bar.set_postfix_str(trainer.postfix(scores))
            if trainer.step % config.log_every == 0:
                run.log(trainer.step, values)
            # After the validation of the same step, which a resumed run does not repeat.
            if last or trainer.step % config.checkpoint_every == 0:
                state = {**trainer.state_metadata(), "spent": budget.spent, "scores": scores}
                run.save(trainer.step, trainer.state_tensors(), state)
    return scores
