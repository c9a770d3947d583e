"""The results of ``facehall bench patch-selection`` in the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from facehall_env.benchmarks.plots import ORACLE
from facehall_env.benchmarks.quality.patch_selection_table import PatchSelectionRow, detail, summary
from facehall_env.benchmarks.report.contents import PatchSelection
from facehall_env.benchmarks.report.layout import Block, Chart, Section, faces_of
from facehall_env.benchmarks.report.reading import Found
from facehall_env.benchmarks.tables import Table, cell
from facehall_env.spec import BICUBIC

AGENTS = {
    BICUBIC: "the upsampled face, without any patch",
    "random": "chooses places at random",
    "even": "tiles the face in one fixed order",
    "saliency": "looks where the image has the most detail",
    "static": "one learned order of places for all faces",
    "rl": "a recurrent policy, trained by REINFORCE: it sees the face with all patches so far",
    "qmap": "predicts the gain of a patch for every place at once, and takes the best",
    "ppo": "a policy trained by PPO of Stable-Baselines3",
    "recurrent_ppo": "the same with a memory, by sb3-contrib",
    "maskable_ppo": "PPO that chooses no place twice, by sb3-contrib",
    "a2c": "a policy trained by A2C of Stable-Baselines3",
    "dqn": "Q-learning of Stable-Baselines3",
    ORACLE: "tries many places at each step and takes the best. It compares them with the truth, "
    "which no agent can, and so shows how much there is to gain",
}
"""The agents, each in a line."""

ENHANCERS = {
    "compact": "compact, a small network of this project",
    "attention_fh": "attention_fh, the network of the paper",
}
"""The networks that come with the project, in a few words."""

Rows = Sequence[PatchSelectionRow]


def headlines(found: Found) -> list[str]:
    """What the largest patch-selection benchmark found, in sentences made of its numbers."""
    results = _in_order(found)
    if not results:
        return []
    content = results[0]
    first, last = content.steps[0], content.steps[-1]
    random = next((row for row in content.at(first) if row.agent == "random"), None)
    best = best_agent(content.at(first))
    sentences = []
    if best and random and best.agent != "random":
        sentences.append(
            f"With {_patches(first)}, choosing where to put {'it' if first == 1 else 'them'} is "
            f"worth {best.psnr - random.psnr:.2f} dB: {random.psnr:.2f} dB for places chosen at "
            f"random, {best.psnr:.2f} dB for {best.agent}, the best agent, on {best.images:,} "
            f"{faces_of(content.settings.dataset)}."
        )
    best = best_agent(content.at(last))
    if best and best.psnr_minus_even_ci >= 0:
        side = "above" if best.psnr_minus_even >= 0 else "below"
        sentences.append(
            f"After {_patches(last)}, {best.agent} is "
            f"{cell(abs(best.psnr_minus_even), '.3f', best.psnr_minus_even_ci)} dB {side} the "
            "fixed order even, on the same faces with the same network (95 % interval)."
        )
    if best and best.oracle_share_ci >= 0:
        sentences.append(
            f"An oracle that knows the truth gains the most over random places. Of its gain, "
            f"{best.agent} reaches {cell(best.oracle_share, '.0%', best.oracle_share_ci)} after "
            f"{_patches(last)} (95 % interval)."
        )
    return sentences


def section(found: Found) -> Section:
    """All patch-selection benchmarks, the most telling one first."""
    results = _in_order(found)
    agents = {row.agent for content in results for row in content.rows}
    return Section(
        "choosing",
        "Is choosing where to look worth it?",
        "Every agent restores the same faces with the same network. They differ only in where "
        "they put their patches.",
        [_block(content) for content in results],
        {name: words for name, words in AGENTS.items() if name in agents},
    )


def best_agent(rows: Iterable[PatchSelectionRow]) -> PatchSelectionRow | None:
    """The highest PSNR on the most images, of agents that do not see the truth."""
    rows = list(rows)
    images = max((row.images for row in rows), default=0)
    agents = [row for row in rows if row.agent not in (BICUBIC, ORACLE) and row.images == images]
    return max(agents, key=lambda row: row.psnr, default=None)


def _in_order(found: Found) -> list[PatchSelection]:
    """Those with the most images first, and of these the one whose best agent gets furthest.

    Where a network has restored the face before the first patch, patches have little left to win:
    such results come after those that start from the upsampled face.
    """

    def importance(content: PatchSelection) -> tuple[int, bool, float]:
        best = best_agent(content.at(content.steps[-1]))
        upsampled = content.settings.initial == BICUBIC
        return content.images, upsampled, 0.0 if best is None else best.psnr

    contents = [result.content for result in found.of(PatchSelection)]
    return sorted(contents, key=importance, reverse=True)


def _block(content: PatchSelection) -> Block:
    settings = content.settings
    what = f"{settings.enhancer} on {settings.dataset}, {settings.scale}×"
    return Block(
        title=f"With the network {what}",
        intro=(
            f"{content.images:,} test images ({faces_of(settings.dataset)}), downsampled and "
            f"upsampled again by the protocol {settings.protocol}. The patches are restored by "
            f"{ENHANCERS.get(settings.enhancer, settings.enhancer)}."
        ),
        tables=[_with_oracle_aside(summary(content.rows, f"PSNR after T patches: {what}"))],
        details=[_with_oracle_aside(detail(content.rows, f"All numbers: {what}"))],
        chart=_chart(content),
    )


def _with_oracle_aside(table: Table) -> Table:
    names = [str(name).partition(" ")[0] for name in table.columns[0].values]
    return replace(table, aside=[place for place, name in enumerate(names) if name == ORACLE])


def _chart(content: PatchSelection) -> Chart | None:
    """The gain in PSNR by patches, from where each agent's own images started."""
    curves = [c for c in content.curves if c.agent != BICUBIC and len(c.psnr) > 1]
    if not curves:
        return None
    gains = {curve.agent: [value - curve.psnr[0] for value in curve.psnr] for curve in curves}
    ends = sorted(gains, key=lambda name: -gains[name][-1])
    return Chart(
        title=f"PSNR gained by patches: {content.settings.enhancer} on {content.settings.dataset}",
        description=(
            f"A line for each agent, from 0 to {content.steps[-1]} patches. In the end, from the "
            "highest to the lowest gain: "
            + ", ".join(f"{name} {gains[name][-1]:.2f} dB" for name in ends)
            + "."
        ),
        curves=gains,
        start=max(curves, key=lambda curve: curve.images).psnr[0],
        x_ticks=[0, *content.steps],
        note="".join(
            f" {curve.agent}: on the first {curve.images} images."
            for curve in curves
            if curve.images < content.images
        ),
    )


def _patches(number: int) -> str:
    return f"{number} patch" if number == 1 else f"{number} patches"
