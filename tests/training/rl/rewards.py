"""Rewards for policies that know nothing yet: some of their answers must be better than others."""

from __future__ import annotations

from typing import Any


def letters(completions: list[str], **columns: Any) -> list[float]:
    """The share of letters in an answer."""
    return [sum(map(str.isalpha, text)) / max(len(text), 1) for text in completions]


def letters_of_steps(completions: list[str], steps: list[list[str]], **columns: Any) -> list[list[float]]:
    """The same for each of its steps."""
    return [[sum(map(str.isalpha, step)) / max(len(step), 1) for step in own] for own in steps]
