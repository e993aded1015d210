"""What the files of conf/ say beside their settings, for whoever asks: `--cfg job`, `--help`, the reference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from dsm.config.listing import conf_dirs

_COMMENT = re.compile(r"^(?P<before>(?P<indent>\s*)(?P<key>[\w-]+):(?:.*?\s)?)#\s?(?P<text>.*)$")
_CONTINUED = re.compile(r"^(?P<before>\s+)#\s?(?P<text>.*)$")
_KEY = re.compile(r"^(?P<indent>\s*)(?P<key>[\w-]+):")
_ENTRY = re.compile(r"^\s*(- |-$|[\w-]+:|\? )")  # what goes on below is no entry
_DEFAULTS = re.compile(r"^defaults: \[(.*)\]", re.MULTILINE)
_COLUMN = 36
_WIDTH = 120


def comments(stage: str, chosen: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Setting -> the comment beside it, as `optim.lr`.

    Args:
        chosen: (group, option) of the files that were composed; where two speak of one setting, the first counts.
    """
    found = comments_of("config.yaml") | comments_of(f"stage/{stage}.yaml")
    for group, option in chosen:
        for file in _lineage(group, option):
            found = comments_of(file) | found
    return found


def comments_of(name: str) -> dict[str, str]:
    """Setting -> the comment beside it in one file of conf/, or of the user's own folder; a comment that goes on below
    is one."""
    file = next((path for root in conf_dirs() if (path := root / name).is_file()), None)
    return {} if file is None else _read(file, name)


def head_of(name: str) -> list[str]:
    """The lines of the comment that a file of conf/ begins with."""
    file = next(path for root in conf_dirs() if (path := root / name).is_file())
    lines = file.read_text(encoding="utf-8").splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line[2:] for line in lines[:end] if "@package" not in line]


def with_comments(text: str, said: Mapping[str, str], prefix: str = "") -> str:
    """YAML as OmegaConf writes it, with what is said of each setting behind it.

    Args:
        prefix: where the text stands in the whole, as `optim`.
    """
    lines, path = [], [(-1, prefix)] if prefix else []
    written = text.splitlines()
    for line, following in zip(written, [*written[1:], "end:"], strict=True):
        if match := _KEY.match(line):
            depth = len(match["indent"])
            path = [entry for entry in path if entry[0] < depth] + [(depth, match["key"])]
            comment = said.get(".".join(key for _, key in path), "")
            lines.append(_beside(line, comment) if comment and _ENTRY.match(following) else line)
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _beside(line: str, comment: str) -> str:
    """A comment behind a line, going on below where it is long."""
    column = max(_COLUMN, len(line) + 2)
    parts, current = [], ""
    for word in comment.split():
        if current and column + 2 + len(current) + 1 + len(word) > _WIDTH:
            parts.append(current)
            current = word
        else:
            current = f"{current} {word}".strip()
    parts.append(current)
    first = f"{line:<{column}}# {parts[0]}"
    return "\n".join([first, *(f"{'':<{column}}# {part}" for part in parts[1:])])


def _lineage(group: str, option: str) -> list[str]:
    """A file of conf/ and those of its group that it builds upon."""
    name = f"{group}/{option}.yaml"
    file = next((path for root in conf_dirs() if (path := root / name).is_file()), None)
    built_on = _DEFAULTS.search(file.read_text(encoding="utf-8")) if file is not None else None
    parents = [part.strip() for part in built_on[1].split(",")] if built_on else []
    return [name, *(above for parent in parents if parent != "_self_" for above in _lineage(group, parent))]


@cache
def _read(file: Path, name: str) -> dict[str, str]:
    text = file.read_text(encoding="utf-8")
    group = name.rpartition("/")[0]
    package = re.search(r"^# @package (\S+)$", text, re.MULTILINE)
    place = package[1] if package else group.replace("/", ".")
    prefix = "" if place in ("", "_global_") else f"{place}."
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    last, column = "", -1
    for line in text.splitlines():
        if key := _KEY.match(line):
            path = [entry for entry in path if entry[0] < len(key["indent"])] + [(len(key["indent"]), key["key"])]
            last, column = "", -1
            if comment := _COMMENT.match(line):
                last, column = prefix + ".".join(part for _, part in path), len(comment["before"])
                found[last] = comment["text"]
        elif last and (more := _CONTINUED.match(line)) and len(more["before"]) == column:
            found[last] += " " + more["text"].strip()
        else:
            last = ""
    return found
