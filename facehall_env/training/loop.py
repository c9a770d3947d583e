"""The loop around the updates of a network: progress, log, validation, checkpoints, the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from torch import Tensor
from tqdm import tqdm

from facehall_env.training.budget import Budget
from facehall_env.training.distributed import Team
from facehall_env.training.run import TrainingRun

Outcome = TypeVar("Outcome")
"""What an update returns, such as its loss."""


class Trainer(Protocol[Outcome]):
    """One update at a time; its whole state can be saved and restored."""

    @property
    def config(self) -> Any:
        """Settings, among them ``log_every``, ``validate_every`` and ``checkpoint_every``."""

    @property
    def team(self) -> Team:
        """The processes that share the batches; the one that leads writes."""

    @property
    def step(self) -> int:
        """Updates so far."""

    @property
    def title(self) -> str:
        """What the progress bar says."""

    def plan(self, budget: Budget) -> int:
        """Updates of the whole training, as it looks by now; schedules then follow it."""

    def update(self) -> Outcome:
        """One update."""

    def entries(self, outcome: Outcome) -> dict[str, float]:
        """What the log says of an update."""

    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        """Scores of the held-out faces; keeps and draws in the run's folder what is worth it."""

    def postfix(self, scores: Mapping[str, float]) -> str:
        """The scores as the progress bar shows them."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on; all processes have to ask for it."""

    def state_metadata(self) -> dict[str, Any]:
        """What belongs to the tensors and is none; JSON-serialisable."""

    def restore(self, step: int, tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Puts back what :meth:`state_tensors` and :meth:`state_metadata` gave."""


def fit(
    run: TrainingRun, trainer: Trainer[Outcome], minutes: float | None = None
) -> dict[str, float]:
    """Trains from where the run stands to the end.

    Args:
        run: Folder of the run; continued from its checkpoint if it is resumed.
        trainer: What to train.
        minutes: Wall time of the training; None for the trainer's own number of updates.

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
    with tqdm(total=total, initial=trainer.step, desc=trainer.title, disable=not leads) as bar:
        while trainer.step < total:
            outcome = trainer.update()
            bar.total = total = trainer.plan(budget)
            bar.update()
            last = trainer.step == total
            if leads and (last or trainer.step % config.validate_every == 0):
                scores = trainer.evaluate(run)
                run.log(trainer.step, scores)
                bar.set_postfix_str(trainer.postfix(scores))
            if trainer.step % config.log_every == 0:
                run.log(trainer.step, trainer.entries(outcome))
            # After the validation of the same step, which a resumed run does not repeat.
            if last or trainer.step % config.checkpoint_every == 0:
                state = {**trainer.state_metadata(), "spent": budget.spent, "scores": scores}
                run.save(trainer.step, trainer.state_tensors(), state)
    # Only an older version's checkpoint of a run that is over knows no scores.
    return scores if scores or not leads else trainer.evaluate(run)
