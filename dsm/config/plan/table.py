"""How a plan says its numbers, and how its lines are laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Rows = list[tuple[str, str]]
"""(label, text) of the lines of a section."""


def render(sections: Mapping[str, Rows]) -> str:
    """Titles with their rows below, all texts from one column on."""
    width = max(len(label) for rows in sections.values() for label, _ in rows)
    lines = []
    for title, rows in sections.items():
        lines += ["", title, *(f"  {label:<{width}}  {text}".rstrip() for label, text in rows)]
    return "\n".join(lines[1:])


def columns(titles: Sequence[str], table: Mapping[str, Sequence[str]]) -> Rows:
    """A table as rows: a line of titles, then each label's cells, right-aligned but for a last column of paths."""
    lines = {"": titles, **table}
    widths = [max(len(cell) for cell in column) for column in zip(*lines.values(), strict=True)]
    return [
        (label, "   ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
        for label, cells in lines.items()
    ]


def count(number: float) -> str:
    """6.91B, 1.05M, or every digit of fewer than a million."""
    for size, suffix in ((1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.2f}{suffix}"
    return f"{number:,.0f}"


def tokens(number: float) -> str:
    """500B, 9.44M, 81,920: as short as it can be said to four digits."""
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.4g}{suffix}"
    return f"{number:,.0f}"


def si(number: float) -> str:
    """Three digits and a prefix, to stand before a unit."""
    for power, prefix in enumerate("YZEPTGMk"):
        factor = 1000.0 ** (8 - power)
        if number >= factor:
            return f"{number / factor:.3g} {prefix}"
    return f"{number:.3g} "


def size(number: float) -> str:
    """Bytes in units of a thousand."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}" if number < 999.5 * factor else f"{number / factor:.0f} {unit}"
    return f"{number:.0f} bytes"


def duration(seconds: float) -> str:
    """In the largest unit of which there are two."""
    for length, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}" if seconds < 100 * length else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
