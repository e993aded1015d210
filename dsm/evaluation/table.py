"""The results of an evaluation as a table for the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

REFERENCES = 3
"""Published numbers that a row shows: the first of the benchmark's file, which are the paper's own models."""


def table(results: Mapping[str, Any]) -> str:
    """An aligned table of a `results.json`: accuracy with its interval, votes where there are samples, references.

    All shares are percentages. The votes stand for the largest k; the report has the curves.
    """
    header = ["benchmark", "items", "accuracy", "95 %"]
    entries = results["benchmarks"]
    several = any(entry["samples"] > 1 for entry in entries.values())
    curves = ("pass@k", "maj@k", "weighted@k", "best@k")
    votes = [curve for curve in curves if any(entry["metrics"].get(curve) for entry in entries.values())]
    if several:
        header += ["samples", *votes]
    trouble = [
        (key, label)
        for key, label in (("ungradable", "ungradable"), ("no_answer", "no answer"), ("length", "cut"))
        if any(entry["counts"][key] for entry in entries.values())
    ]
    header += [label for _, label in trouble]
    referenced = any(entry["reference"] for entry in entries.values())
    rows = []
    for name, entry in entries.items():
        accuracy = entry["metrics"]["accuracy"]
        row = [name, f"{entry['n']:,}", percent(accuracy["value"]), bounds(accuracy)]
        if several:
            row += [str(entry["samples"]), *(_largest(entry["metrics"].get(vote, {})) for vote in votes)]
        row += [percent(entry["counts"][key] / max(entry["counts"]["samples"], 1)) for key, _ in trouble]
        rows.append(
            [*row, ", ".join(f"{who} {percent(value)}" for who, value in list(entry["reference"].items())[:REFERENCES])]
        )
    return align([[*header, "reference"], *rows] if referenced else [header, *(row[:-1] for row in rows)])


def align(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text under an underlined header: the first and 'reference' to the left, all else to the right."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    left = [index == 0 or title == "reference" for index, title in enumerate(rows[0])]

    def line(row: Sequence[str]) -> str:
        pads = [" " * (space - width(cell)) for cell, space in zip(row, widths, strict=True)]
        cells = [cell + pad if to_left else pad + cell for cell, pad, to_left in zip(row, pads, left, strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join([line(rows[0]), "  ".join("-" * space for space in widths), *map(line, rows[1:])])


def width(text: str) -> int:
    """Terminal cells that a text takes: Chinese characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def percent(share: float | None, digits: int = 1) -> str:
    """0.882 -> '88.2'; unknown is a dash."""
    return "–" if share is None else f"{100 * share:.{digits}f}"


def bounds(interval: Mapping[str, Any]) -> str:
    """'86.3–89.8', nothing where there is no value."""
    return "" if interval["value"] is None else f"{percent(interval['low'])}–{percent(interval['high'])}"


def _largest(curve: Mapping[str, Mapping[str, Any]]) -> str:
    if not curve:
        return "–"
    k = max(curve, key=int)
    return f"{percent(curve[k]['value'])} (k={k})"
