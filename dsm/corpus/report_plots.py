"""The figures of a mining report, in the style of the evaluation's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from dsm.config.plan.table import tokens as short
from dsm.corpus.cut import BINS, score_of
from dsm.report.charts import colour, svg_figure

_WIDTH = 9.2
_GROUP = 64  # bins of the ranking in a bar
_TICKS = (1e-6, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999, 1 - 1e-6)
LANGUAGES = {"en": "English", "zh": "Chinese", "other": "other"}


def margin(score: float) -> float:
    """The logit, kept within the figure."""
    score = min(max(score, 1e-8), 1 - 1e-8)
    return float(np.clip(np.log(score / (1 - score)), -18, 18))


def languages(facts: Sequence[Mapping[str, Any]]) -> str:
    """Tokens of each round, by language."""
    with svg_figure(_WIDTH, 0.8 + 0.42 * len(facts)) as (figure, drawn):
        axes = figure.subplots()
        left = np.zeros(len(facts))
        for index, (code, name) in enumerate(LANGUAGES.items()):
            widths = np.array([one[f"{code}/tokens"] for one in facts], float)
            axes.barh(range(len(facts)), widths, 0.6, left=left, color=colour(index), label=name)
            left += widths
        for place, (one, end) in enumerate(zip(facts, left, strict=True)):
            text = short(one["tokens"])
            axes.annotate(text, (end, place), (4, 0), textcoords="offset points", va="center", size=8)
        axes.set_yticks(range(len(facts)), [f"round {one['round']}" for one in facts])
        axes.set_ylim(len(facts) - 0.4, -0.6)
        axes.set_xlim(0, max(1.0, 1.12 * left.max()))
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
        axes.set_xlabel("tokens collected")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.4)
    return drawn[0]


def scores(histograms: Sequence[pa.Table], cuts: Sequence[float]) -> str:
    """How many pages have which score, round by round, and where each was cut."""
    from matplotlib.ticker import NullLocator

    rows = len(histograms)
    with svg_figure(_WIDTH, 0.7 + 1.15 * rows) as (figure, drawn):
        panels = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
        edges = [margin(score_of(bin_)) for bin_ in range(0, BINS + 1, _GROUP)]
        for number, (axes, table, cut) in enumerate(zip(panels, histograms, cuts, strict=True), start=1):
            heights = np.zeros(BINS // _GROUP)
            np.add.at(heights, table.column("bin").to_numpy() // _GROUP, table.column("pages").to_numpy())
            axes.stairs(heights, edges, fill=True, color=colour(0), alpha=0.85)
            if cut <= 1:
                axes.axvline(margin(cut), color=colour(3), lw=1.4)
            axes.set_yscale("symlog", linthresh=1)
            axes.set_ylim(0, 2 * max(10.0, heights.max()))
            axes.set_yticks([10**power for power in range(1 + int(np.log10(max(10.0, heights.max()))))])
            axes.yaxis.set_major_formatter(lambda value, _: short(value))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_title(f"round {number}")
            axes.set_ylabel("pages")
        panels[-1].set_xticks([margin(score) for score in _TICKS], [_score(score) for score in _TICKS])
        panels[-1].set_xlim(-16, 16)
        panels[-1].set_xlabel("score (on the scale of its logit); the line is the cut")
    return drawn[0]


def _score(score: float) -> str:
    return f"{score:g}" if score <= 0.9999 else "1 − 10⁻⁶"


def budgets(histograms: Sequence[pa.Table], facts: Sequence[Mapping[str, Any]], marks: Sequence[int]) -> str:
    """The score at which a budget of tokens runs out, for every budget; the budgets looked at are marked."""
    with svg_figure(_WIDTH, 3.0) as (figure, drawn):
        axes = figure.subplots()
        for index, (table, one) in enumerate(zip(histograms, facts, strict=True)):
            each = np.zeros(BINS)
            np.add.at(each, table.column("bin").to_numpy(), table.column("tokens").to_numpy())
            total = np.cumsum(each[::-1])
            margins = [margin(score_of(bin_)) for bin_ in range(BINS - 1, -1, -1)]
            axes.plot(total, margins, color=colour(index), lw=1.4, label=f"round {one['round']}")
            if one["cut/score"] <= 1:
                axes.plot([one["tokens"]], [margin(one["cut/score"])], "o", color=colour(index), ms=5)
        for mark in marks:
            axes.axvline(mark, color="#8c8c8c", lw=0.8, ls=(0, (3, 3)))
        axes.set_yticks([margin(score) for score in _TICKS], [_score(score) for score in _TICKS])
        axes.set_ylim(-16, 16)
        axes.set_xlim(0)
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
        axes.set_xlabel("tokens collected, best pages first; the dots are the cuts")
        axes.set_ylabel("score of the last page")
        axes.legend(loc="upper right", ncols=2)
    return drawn[0]
