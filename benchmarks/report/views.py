"""From the results of each benchmark to what the page shows of them: sentences, curves, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from facehall_env.benchmarks.report.grids import Column, Grid, grid, written
from facehall_env.benchmarks.report.reading import Found, Result
from facehall_env.benchmarks.tables import share
from facehall_env.spec import BICUBIC

Row = Mapping[str, Any]
ORACLE = "oracle"
"""Sees the truth, so that it cannot be the best."""
TRUTH = "truth"
"""The row of the faces themselves in tables of identity and of attributes."""

AGENTS = {
    BICUBIC: "the blurred face as it is, which nobody has touched",
    "random": "patches anywhere, chosen blindly",
    "even": "tiles the face in one fixed order",
    "saliency": "looks where most detail is left",
    "static": "one learned order of places for all faces",
    "rl": "a recurrent policy, trained by REINFORCE: it sees the face as it is by then",
    "qmap": "predicts what a patch would win, for every place at once, and takes the best",
    "ppo": "a policy trained by PPO of Stable-Baselines3",
    "recurrent_ppo": "the same with a memory, by sb3-contrib",
    "maskable_ppo": "PPO that goes nowhere twice, by sb3-contrib",
    "a2c": "a policy trained by A2C of Stable-Baselines3",
    "dqn": "Q-learning of Stable-Baselines3",
    ORACLE: "tries many places at each step and takes the best: it knows the truth, which no agent "
    "can, and marks what there is to win",
}
"""Who the agents are, in a line."""

ENHANCERS = {
    "compact": "compact, a small network of this project",
    "attention_fh": "attention_fh, the network of the paper",
}
"""The networks that come with the project, in a few words."""

DATASETS = {
    "lfw": "photographs of Labeled Faces in the Wild",
    "synthetic": "faces drawn by the computer",
}


@dataclass(frozen=True)
class Chart:
    """PSNR gained by patches.

    Attributes:
        title: What is drawn, in a line.
        description: What there is to see, for readers who do not see it.
        curves: (T + 1,) decibels gained since the start, for each agent.
        start: PSNR of the images before the first patch, in dB.
        x_ticks: Numbers of patches to write below.
        note: What else one has to know.
    """

    title: str
    description: str
    curves: Mapping[str, Sequence[float]]
    start: float
    x_ticks: Sequence[int]
    note: str = ""


@dataclass(frozen=True)
class Block:
    """What the page shows of one results file.

    Attributes:
        title: Its heading.
        intro: A sentence or two.
        chart: Curves, if there are some.
        grids: Tables.
        details: Tables for those who want to know more.
        notes: Sentences below.
        source: Name of the file.
    """

    title: str
    intro: str
    chart: Chart | None = None
    grids: Sequence[Grid] = ()
    details: Sequence[Grid] = ()
    notes: Sequence[str] = ()
    source: str = ""


@dataclass(frozen=True)
class Section:
    """Blocks of one kind.

    Attributes:
        id: In the page's address.
        title: Its heading.
        intro: A sentence or two.
        blocks: At least one.
        terms: Words and what they mean.
    """

    id: str
    title: str
    intro: str
    blocks: Sequence[Block]
    terms: Mapping[str, str] = field(default_factory=dict)


def sections(found: Found) -> list[Section]:
    """What the page shows of all results, without sections that would be empty."""
    every = [
        _selection(found),
        _papers(found),
        _whole_faces(found),
        _identity(found),
        _attributes(found),
        _speed(found),
    ]
    return [section for section in every if section.blocks]


def faces_of(dataset: str) -> str:
    """A dataset in words.

    >>> faces_of("synthetic"), faces_of("helen")
    ('faces drawn by the computer', 'faces of helen')
    """
    return DATASETS.get(dataset, f"faces of {dataset}")


def headlines(found: Found) -> list[str]:
    """What the largest patch-selection benchmark found, in sentences made of its numbers."""
    results = _selections(found)
    if not results:
        return []
    result = results[0]
    steps = _steps(result)
    few, many = _at(result, steps[0]), _at(result, steps[-1])
    settings = result.content["settings"]
    sentences = []
    best = _best(few)
    if best and "random" in few and best["agent"] != "random":
        gain = best["psnr"] - few["random"]["psnr"]
        sentences.append(
            f"With {_patches(steps[0])}, where {'it is' if steps[0] == 1 else 'they are'} put is "
            f"worth {written(gain, '.2f')} dB: "
            f"{written(few['random']['psnr'], '.2f')} dB for places chosen at random, "
            f"{written(best['psnr'], '.2f')} dB for {best['agent']}, the best agent, on "
            f"{best['images']:,} {faces_of(settings['dataset'])}."
        )
    best = _best(many)
    if best and best["psnr_minus_even"] is not None and best["psnr_minus_even_ci"] is not None:
        side = "above" if best["psnr_minus_even"] >= 0 else "below"
        sentences.append(
            f"After {_patches(steps[-1])}, {best['agent']} is "
            f"{written(abs(best['psnr_minus_even']), '.3f')} ± "
            f"{written(best['psnr_minus_even_ci'], '.3f')} dB {side} the fixed order even, on the "
            "same faces with the same network (95 % interval)."
        )
    if best and best["oracle_share"] is not None and best["oracle_share_ci"] is not None:
        sentences.append(
            f"Of what an oracle that knows the truth wins over random places, {best['agent']} wins "
            f"{share(best['oracle_share'], best['oracle_share_ci'])} after {_patches(steps[-1])} "
            "(95 % interval)."
        )
    return sentences


def _patches(number: int) -> str:
    return f"{number} patch" if number == 1 else f"{number} patches"


def _selections(found: Found) -> list[Result]:
    """Those with the most images first, and of these the one whose best agent gets furthest.

    Where a network has restored the face before the first patch, patches have little left to win:
    such results come after those that start from the enlarged face.
    """

    def importance(result: Result) -> tuple[int, bool, float]:
        initial = result.content["settings"].get("initial", BICUBIC)
        return _most_images(result), initial == BICUBIC, _best_psnr(result)

    return sorted(found.of("patch-selection"), key=importance, reverse=True)


def _selection(found: Found) -> Section:
    results = _selections(found)
    agents = {row["agent"] for result in results for row in result.content["rows"]}
    return Section(
        "choosing",
        "Is choosing where to look worth it?",
        "Every agent restores the same faces with the same network. They differ only in where "
        "they put their patches.",
        [_selection_block(result) for result in results],
        {name: words for name, words in AGENTS.items() if name in agents},
    )


def _selection_block(result: Result) -> Block:
    settings, steps = result.content["settings"], _steps(result)
    images = _most_images(result)
    last = _at(result, steps[-1])
    return Block(
        title=f"With the network {_what(result)}",
        intro=(
            f"{images:,} test images ({faces_of(settings['dataset'])}), made small and large again "
            f"by the protocol {settings['protocol']}. The patches are restored by "
            f"{ENHANCERS.get(settings['enhancer'], settings['enhancer'])}."
        ),
        chart=_selection_chart(result),
        grids=[_selection_grid(result)],
        details=[
            _paired_grid(result),
            _similarity_grid(list(last.values()), steps[-1], _what(result)),
        ],
        source=result.name,
    )


def _selection_chart(result: Result) -> Chart | None:
    """PSNR by patches, from where each agent's own images started."""
    curves = {
        curve["agent"]: curve
        for curve in result.content["curves"]
        if curve["agent"] != BICUBIC and len(curve["psnr"]) > 1
    }
    if not curves:
        return None
    images, steps = _most_images(result), _steps(result)
    gains = {
        name: [value - curve["psnr"][0] for value in curve["psnr"]]
        for name, curve in curves.items()
    }
    ends = sorted(gains, key=lambda name: -gains[name][-1])
    start = max(curves.values(), key=lambda curve: int(curve["images"]))["psnr"][0]
    settings = result.content["settings"]
    return Chart(
        title=f"PSNR gained by patches: {settings['enhancer']} on {settings['dataset']}",
        description=(
            f"A line for each agent, from 0 to {steps[-1]} patches. In the end, from the highest "
            "to the lowest gain: "
            + ", ".join(f"{name} {written(gains[name][-1], '.2f')} dB" for name in ends)
            + "."
        ),
        curves=gains,
        start=start,
        x_ticks=[0, *steps],
        note="".join(
            f" {name}: on the first {curve['images']} images."
            for name, curve in curves.items()
            if curve["images"] < images
        ),
    )


def _selection_grid(result: Result) -> Grid:
    steps, images = _steps(result), _most_images(result)
    by_steps = {step: _at(result, step) for step in steps}
    names = list(by_steps[steps[-1]])
    last = [by_steps[steps[-1]][name] for name in names]
    columns = [
        _column(f"T = {step}", [by_steps[step].get(name, {}) for name in names], "psnr", ".2f")
        for step in steps
    ]
    columns.append(_column("mean over T", last, "psnr_auc", ".2f"))
    columns += [
        _column(
            f"share, T = {step}",
            [by_steps[step].get(name, {}) for name in names],
            "oracle_share",
            ".0%",
        )
        for step in dict.fromkeys((steps[0], steps[-1]))
    ]
    tried = max(row["oracle_images"] for row in last)
    note = (
        "PSNR in dB after T patches, with the half width of its 95 % interval over images. "
        f"Mean over T: of 1 to {steps[-1]} patches."
    )
    if tried:
        note += " Share: of the gap between random and the oracle" + (
            f", on the first {tried} images." if tried < images else "."
        )
    return grid(
        f"PSNR after T patches: {_what(result)}",
        "agent",
        [_name(row) for row in last],
        columns,
        notes=["" if row["images"] == images else f"first {row['images']}" for row in last],
        competes=[row["agent"] != ORACLE for row in last],
        note=note,
    )


def _paired_grid(result: Result) -> Grid:
    steps = _steps(result)
    by_steps = {step: _at(result, step) for step in steps}
    last = list(by_steps[steps[-1]].values())
    names = [row["agent"] for row in last]
    return grid(
        f"Difference from the fixed order even: {_what(result)}",
        "agent",
        [_name(row) for row in last],
        [
            _column(
                f"T = {step}",
                [by_steps[step].get(name, {}) for name in names],
                "psnr_minus_even",
                "+.3f",
            )
            for step in steps
        ]
        + [_column("mean over T", last, "psnr_auc_minus_even", "+.3f")],
        competes=[name != ORACLE for name in names],
        note="In dB, paired over the images that both have, with 95 % intervals. An interval that "
        "does not reach 0 is a difference beyond chance.",
    )


def _similarity_grid(rows: Sequence[Row], steps: int, what: str) -> Grid:
    scored = max(row["fsim_images"] for row in rows)
    return grid(
        f"Other measures after {steps} patches: {what}",
        "agent",
        [_name(row) for row in rows],
        [
            _column("SSIM", rows, "ssim", ".4f"),
            _column("FSIM", rows, "fsim", ".4f"),
            _column("ms per image", rows, "ms_per_image", ".0f", "neither"),
        ],
        competes=[row["agent"] != ORACLE for row in rows],
        note=(f"FSIM on the first {scored} images. " if scored else "")
        + "Times are of the machine named below, which may have done other work beside.",
    )


def _whole_faces(found: Found) -> Section:
    return Section(
        "whole",
        "Networks that restore whole faces",
        "Restored at one go instead of patch by patch: quality, size, time and memory side by "
        "side.",
        [_whole_block(result) for result in found.of("sr")],
    )


def _whole_block(result: Result) -> Block:
    settings, rows = result.content["settings"], result.content["rows"]
    other = result.content["relative_to"]
    images = max(row["images"] for row in rows)
    notes = [
        "untrained"
        if row["weights"] is None
        else ("" if row["images"] == images else f"first {row['images']}")
        for row in rows
    ]
    names = [row["model"] for row in rows]
    # A network without weights is there for its cost alone.
    competes = [row["weights"] is not None for row in rows]
    quality = grid(
        f"Quality: {settings['dataset']}, {settings['scale']}×",
        "network",
        names,
        [
            _column("PSNR", rows, "psnr", ".2f"),
            _column(f"minus {other}", rows, "psnr_minus", "+.3f"),
            _column("SSIM", rows, "ssim", ".4f"),
            _column("FSIM", rows, "fsim", ".4f"),
        ],
        notes=notes,
        competes=competes,
        note="PSNR in dB; intervals are 95 %, differences are paired.",
    )
    cost = grid(
        f"Cost of a face: {settings['dataset']}, {settings['scale']}×",
        "network",
        names,
        [
            _column("parameters", rows, "parameters", ",.0f", "lower"),
            Column("GMACs", [row["macs_per_face"] / 1e9 for row in rows], ".3f", better="lower"),
            _column("ms", rows, "ms_per_face", ".1f", "lower"),
            _column(f"time / {other}", rows, "time_ratio", ".2f", "lower"),
            _column("peak MiB", rows, "peak_memory_mib", ".0f", "lower"),
        ],
        competes=[name != BICUBIC for name in names],
        note=f"In batches of {settings['time_batch']}, measured in turns.",
    )
    return Block(
        f"{settings['dataset']}, {settings['scale']}×, protocol {settings['protocol']}",
        f"{images:,} test images ({faces_of(settings['dataset'])}).",
        grids=[quality, cost],
        source=result.name,
    )


def _papers(found: Found) -> Section:
    return Section(
        "papers",
        "The papers’ tables",
        "Our numbers with the papers’ own beside them. Faces, budgets and conventions differ, as "
        "each table says: compare rows with one another rather than ours with theirs.",
        [_paper_block(result) for result in found.of("paper-table")],
    )


def _paper_block(result: Result) -> Block:
    content = result.content
    rows, columns = content["rows"], content["columns"]
    # Neither those who know the truth nor the truth itself can be the best.
    competes = [row["key"] not in (ORACLE, TRUTH) for row in rows]
    titles = {condition["key"]: condition["title"] for condition in content["conditions"]}
    heads = [f"{titles[column['condition']]} {column['title']}" for column in columns]
    title = f"{content['paper']}, {content['kind']} {content['number']}: {content['title']}"
    ours = grid(
        title,
        "method",
        [row["name"] for row in rows],
        [
            Column(
                head,
                [row["cells"][place]["value"] for row in rows],
                f".{column['digits']}f",
                [row["cells"][place]["ci"] for row in rows],
                "lower" if column["lower"] else "higher",
                [_theirs(row["cells"][place]["paper"]) for row in rows],
            )
            for place, (head, column) in enumerate(zip(heads, columns, strict=True))
        ],
        note="Ours with the half width of the 95 % interval; the paper’s below.",
        competes=competes,
    )
    names = {row["key"]: row["name"] for row in rows}
    paired = grid(
        f"Differences from {names[content['reference']]}: {title}",
        "method",
        [row["name"] for row in rows],
        [
            Column(
                head,
                [row["cells"][place]["minus"] for row in rows],
                f"+.{column['digits'] + 1}f",
                [row["cells"][place]["minus_ci"] for row in rows],
            )
            for place, (head, column) in enumerate(zip(heads, columns, strict=True))
        ],
        note="Paired over the same images, with 95 % intervals.",
    )
    return Block(
        title,
        " ".join(_conventions(content)),
        grids=[ours],
        details=[table for table in (paired, _orders(content, title)) if table.header],
        notes=content["notes"],
        source=result.name,
    )


def _orders(content: Mapping[str, Any], title: str) -> Grid:
    """Whether rows that are neighbours in the paper's order stand in that order here, too."""
    lines = content["orderings"]
    return grid(
        f"The paper’s orders: {title}",
        "order",
        [f"{line['better']} before {line['worse']}" for line in lines],
        [
            Column("the paper’s difference", [line["paper"] for line in lines], "+.4g"),
            _column("ours", lines, "difference", "+.4g", "neither", "ci"),
        ],
        notes=[f"{line['condition']} {line['metric']}: {line['verdict']}" for line in lines],
    )


def _theirs(paper: str | None) -> str:
    return "" if paper is None else f"paper {paper}"


def _conventions(content: Mapping[str, Any]) -> list[str]:
    """What one has to know to read a paper's table."""
    parts = [content["caption"], f"Protocol {content['protocol']}."]
    for condition in content["conditions"]:
        if condition.get("differs"):
            parts.append(f"{condition['title']}: {condition['differs']}.")
        if condition.get("missing"):
            parts.append(f"{condition['title']} is not there: {condition['missing']}.")
    images = max(cell["images"] for row in content["rows"] for cell in row["cells"])
    if images:
        parts.append(f"{images:,} test images.")
    budget = content["budget"]
    if budget["each"] is not None:
        parts.append(
            f"Budget of all trainings: {budget['minutes']:g} minutes, {budget['each']:.3g} for "
            "each row."
        )
    return [part for part in parts if part]


def _identity(found: Found) -> Section:
    return Section(
        "identity",
        "Is it still the same person?",
        "Recognisers are asked whether two restored faces are one person’s, and whose face a "
        "restored one is.",
        [_identity_block(result) for result in found.of("identity")],
    )


def _identity_block(result: Result) -> Block:
    settings, pairs, rows = (result.content[key] for key in ("settings", "pairs", "rows"))
    fars = [key for key in rows[0] if key.startswith("tar_at_far_")]
    table = grid(
        f"Identity: {settings['dataset']}, {settings['scale']}×",
        "network",
        [row["model"] for row in rows],
        [
            Column(
                "accuracy",
                [row["accuracy"] for row in rows],
                ".1%",
                [row["accuracy_se"] for row in rows],
                "higher",
            ),
            _column("of all pairs", rows, "accuracy_all", ".1%", interval="accuracy_all_se"),
            *(
                _column(f"TAR at FAR {key.removeprefix('tar_at_far_')}", rows, key, ".1%")
                for key in fars
            ),
            _column("rank 1", rows, "rank1", ".1%"),
            _column("cosine to the truth", rows, "cosine", ".3f"),
            _column("PSNR", rows, "psnr", ".2f"),
            _column("landmark error", rows, "nme", ".4f", "lower"),
        ],
        notes=[row["recogniser"] for row in rows],
        competes=[row["model"] != TRUTH for row in rows],
        note="± of the accuracies is their standard error over the folds, of the others the half "
        "width of the 95 % interval. The truth does not compete.",
    )
    return Block(
        f"{settings['dataset']}, {settings['scale']}×, protocol {settings['protocol']}",
        f"{pairs['number']:,} {pairs['source']} pairs, {pairs['images']:,} images of "
        f"{pairs['people']:,} people.",
        grids=[table],
        source=result.name,
    )


def _attributes(found: Found) -> Section:
    return Section(
        "attributes",
        "Does one still see who smiles?",
        "A classifier that was fitted to true faces tells the attributes of restored ones.",
        [_attributes_block(result) for result in found.of("attributes")],
    )


def _attributes_block(result: Result) -> Block:
    settings, shares, rows = (result.content[key] for key in ("settings", "share", "rows"))
    names = list(rows[0]["attributes"])
    judge = settings["recogniser"].partition("=")[0]
    what = f"{settings['dataset']}, {settings['scale']}×, {judge}"
    table = grid(
        f"Attributes: {what}",
        "network",
        [row["model"] for row in rows],
        [
            _column("balanced accuracy", rows, "balanced_accuracy", ".1%"),
            _column(f"minus {BICUBIC}", rows, "minus_bicubic", "+.2%"),
            _column("PSNR", rows, "psnr", ".2f"),
        ],
        competes=[row["model"] != TRUTH for row in rows],
        note="The mean of the shares of those with and of those without an attribute that are told "
        "rightly, half being chance, over all attributes; with 95 % intervals over images, "
        "differences paired. The truth does not compete.",
    )
    each = grid(
        f"Each attribute: {what}",
        "attribute",
        names,
        [
            Column("have it", [shares[name] for name in names], ".0%"),
            *(
                _column(
                    row["model"],
                    [row["attributes"][name] for name in names],
                    "balanced_accuracy",
                    ".1%",
                    "neither",
                )
                for row in rows
            ),
        ],
        note="Balanced accuracy, with 95 % intervals: too narrow where few have it, or few do not.",
    )
    return Block(
        f"{settings['dataset']}, {settings['scale']}×, protocol {settings['protocol']}",
        f"{rows[0]['images']:,} test images, {len(names)} attributes, told from what {judge} sees.",
        grids=[table],
        details=[each],
        source=result.name,
    )


def _speed(found: Found) -> Section:
    blocks = [
        block(result)
        for kind, block in (
            ("throughput", _throughput_block),
            ("network", _network_block),
            ("profile", _profile_block),
            ("training-memory", _memory_block),
        )
        for result in found.of(kind)
    ]
    return Section(
        "speed",
        "Speed",
        "Ratios of one run are worth more than its numbers: these are of one machine.",
        blocks,
    )


def _throughput_block(result: Result) -> Block:
    rows, networks = result.content["vector_env"], result.content["enhancers"]
    machine = result.content["machine"]
    # Many at once are what the batched environment is for; the rest is there for who asks.
    many = max(row["num_envs"] for row in rows)
    first = [
        row for row in rows if (row["num_envs"], row["precision"]) == (many, rows[0]["precision"])
    ]
    # A processor without bfloat16 arithmetic rounds the weights alone.
    slow = machine["device"] == "cpu" and not machine.get("cpu_bfloat16", True)
    emulated = " It has no bfloat16 arithmetic: bf16 is computed in fp32." if slow else ""
    about = f"Environments around {rows[0]['enhancer']}"
    return Block(
        "Environments and networks",
        f"Measured in turns on {machine['device']} with {machine['threads']} threads.{emulated}",
        grids=[
            _environments(f"{about}, {many} at once", first),
            grid(
                "Networks alone",
                "network",
                [row["enhancer"] for row in networks],
                [
                    _column("patches per second", networks, "patches_per_second", ".0f", "neither"),
                    _column(
                        f"ratio to {networks[0]['ratio_to']}", networks, "ratio", ".1f", "neither"
                    ),
                ],
                notes=[f"{row['batch']} at once, {row['precision']}" for row in networks],
            ),
        ],
        details=[_environments(f"{about}, all", rows)] if len(rows) > len(first) else [],
        source=result.name,
    )


def _environments(caption: str, rows: Sequence[Row]) -> Grid:
    return grid(
        caption,
        "environment",
        [row["environment"] for row in rows],
        [
            _column("steps per second", rows, "steps_per_second", ".1f", "neither"),
            _column("batched is faster by", rows, "ratio", ".2f", "neither"),
            _column("time in the network", rows, "network_share", ".1%", "neither"),
            _column("peak MiB", rows, "peak_memory_mib", ".0f", "neither"),
        ],
        notes=[f"{row['num_envs']} at once, {row['precision']}" for row in rows],
    )


def _memory_block(result: Result) -> Block:
    rows, settings = result.content["rows"], result.content["settings"]
    return Block(
        "Memory of an update of SPARNetHD",
        f"{settings['size']}×{settings['size']} pixels, {settings['batch']} at once. Recomputed "
        "features (gradient checkpointing) cost time and save memory.",
        grids=[
            grid(
                "Most that a process takes",
                "features between the passes",
                [row["features"] for row in rows],
                [_column("peak MiB", rows, "peak_memory_mib", ",.0f", "neither")],
            )
        ],
        source=result.name,
    )


def _network_block(result: Result) -> Block:
    rows = result.content["rows"]
    return Block(
        f"What {result.content['settings']['enhancer']} costs beside its convolutions",
        "",
        grids=[
            grid(
                "Time of a whole face",
                "form",
                [row["form"] for row in rows],
                [
                    _column("ms", rows, "ms_per_image", ".1f", "lower"),
                    _column(
                        "convolutions alone", rows, "convolutions_ms_per_image", ".1f", "neither"
                    ),
                    _column("ratio", rows, "ratio", ".2f", "lower"),
                ],
                notes=[f"{row['layout']}, {row['precision']}" for row in rows],
                note=f"Batches of {result.content['settings']['batch']}.",
            )
        ],
        source=result.name,
    )


def _profile_block(result: Result) -> Block:
    shares = result.content["shares"]
    settings = result.content["settings"]
    return Block(
        "Where the time of an update goes",
        f"One REINFORCE update of {settings['batch']} faces with {settings['num_steps']} patches "
        f"each ({settings['enhancer']}) takes "
        f"{written(result.content['seconds_per_update'], '.1f')} s.",
        grids=[
            grid(
                "Share of the time of a REINFORCE update",
                "part",
                list(shares),
                [Column("share", list(shares.values()), ".1%")],
            )
        ],
        source=result.name,
    )


def _column(
    title: str,
    rows: Sequence[Row],
    key: str,
    form: str,
    better: Literal["higher", "lower", "neither"] = "higher",
    interval: str | None = None,
) -> Column:
    """A column of rows' numbers, with their intervals if they have some."""
    return Column(
        title,
        [row.get(key) for row in rows],
        form,
        [row.get(interval or f"{key}_ci") for row in rows],
        better,
    )


def _what(result: Result) -> str:
    settings = result.content["settings"]
    return f"{settings['enhancer']} on {settings['dataset']}, {settings['scale']}×"


def _steps(result: Result) -> list[int]:
    return sorted({row["steps"] for row in result.content["rows"]})


def _at(result: Result, steps: int) -> dict[str, Row]:
    """The rows of a number of patches, by agent."""
    rows = result.content["rows"]
    return {row["agent"]: row for row in rows if row["steps"] == steps}


def _most_images(result: Result) -> int:
    return max(int(row["images"]) for row in result.content["rows"])


def _best_psnr(result: Result) -> float:
    best = _best(_at(result, _steps(result)[-1]))
    return 0.0 if best is None else float(best["psnr"])


def _best(rows: Mapping[str, Row]) -> Row | None:
    """Who ends highest on the most images of those that do not see the truth."""
    images = max((row["images"] for row in rows.values()), default=0)
    agents = [
        row
        for name, row in rows.items()
        if name not in (BICUBIC, ORACLE) and row["images"] == images
    ]
    return max(agents, key=lambda row: float(row["psnr"]), default=None)


def _name(row: Row) -> str:
    """The agent's name; for the starting image, what it is."""
    restored = row["agent"] == BICUBIC and row["initial"] != BICUBIC
    return "start" if restored else str(row["agent"])
