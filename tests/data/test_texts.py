"""What a tokenizer is learnt from: which texts of which rows, in which order, and no more than asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dsm.config.data import TextDataConfig
from dsm.data.texts import read_texts
from dsm.errors import UserError


def texts(folder: Path, **changes: Any) -> list[str]:
    """Those of two sources of five rows each."""
    for name in "ab":
        rows = [{"text": f"{name}{number}", "other": {"parts": [f"{name}{number}'"]}} for number in range(5)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = {name: {"path": str(folder / f"{name}.jsonl")} for name in "ab"}
    given = {"sources": sources, "fields": ["text"], "every": 1, "max_bytes": None} | changes
    return list(read_texts(TextDataConfig.model_validate(given)))


def test_every_row_of_every_source_in_turn(tmp_path: Path) -> None:
    assert texts(tmp_path) == [f"{name}{number}" for name in "ab" for number in range(5)]


def test_a_sample_is_spread_over_each_source(tmp_path: Path) -> None:
    assert texts(tmp_path, every=2) == ["a0", "a2", "a4", "b0", "b2", "b4"]
    assert texts(tmp_path, every=9) == ["a0", "b0"]


def test_texts_inside_lists_are_found_and_bytes_counted(tmp_path: Path) -> None:
    assert texts(tmp_path, fields=[], every=5) == ["a0", "a0'", "b0", "b0'"]
    assert texts(tmp_path, max_bytes=5) == ["a0", "a1"]
    with pytest.raises(UserError, match=r"none of data.fields=\['question'\]; their keys are text"):
        texts(tmp_path, fields=["question"])
