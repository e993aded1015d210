"""Evaluation folders as `stage=eval` leaves them, made from verdicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsm.evaluation.loading import load_evaluation
from dsm.evaluation.metrics import summarise
from dsm.report.compare import Comparison, compare

VERDICTS = {"c": "correct", "w": "wrong", "u": "ungradable"}


def record(identity: str, verdicts: str, **changes: Any) -> dict[str, Any]:
    """An item with one sample a letter: c, w or u."""
    samples = [
        {
            "output": f"I say {letter}.",
            "answer": None if letter == "u" else letter,
            "rule": "boxed",
            "flags": [],
            "verdict": VERDICTS[letter],
            "reason": "number",
            "class": "cw".find(letter) if letter != "u" else None,
            "tokens": 4,
            "finish_reason": "length" if letter == "u" else "eos",
        }
        for letter in verdicts
    ]
    row = {
        "benchmark": "gsm8k",
        "id": identity,
        "question": f"Question {identity}?",
        "prompt": "User: ...",
        "gold": "c",
    }
    return {**row, "groups": {}, "samples": samples, **changes}


def write_evaluation(
    folder: Path,
    benchmarks: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    model: str = "export",
    protocol: Mapping[str, Any] | None = None,
    **entry: Any,
) -> Path:
    """`results.json` and a JSONL for each benchmark; `entry` goes to `summarise`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: summarise(rows, protocol=protocol, **entry) for name, rows in benchmarks.items()}
    results = {"model": model, "benchmarks": found}
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    for name, rows in benchmarks.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def compared(*folders: Path, baseline: int = 0) -> Comparison:
    """The comparison of evaluation folders, labelled by their names."""
    return compare([load_evaluation(str(folder), folder.name, "evaluations.x") for folder in folders], baseline)
