"""RUN/steps.jsonl: when which step ran, how long, how it ended; a line a start."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One start of a step.

    Attributes:
        step: its name.
        began: seconds since the epoch.
        seconds: how long it ran.
        status: its exit status, 128 + n where signal n killed it; None where the pipeline was killed beside it.
        cpu_seconds: of it and the processes that it started and waited for; None likewise.
    """

    step: str
    began: float
    seconds: float
    status: int | None
    cpu_seconds: float | None


class Journal:
    """All starts of a pipeline's steps, over all of its own."""

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        self.entries = [Entry(**json.loads(line)) for line in lines]

    def add(self, entry: Entry) -> None:
        """Keep one; where that start is known already, nothing happens."""
        if any((known.step, known.began) == (entry.step, entry.began) for known in self.entries):
            return
        self.entries.append(entry)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(entry)) + "\n")

    def seconds(self, step: str) -> float | None:
        """What a step took over all its starts; None where it never ran here."""
        taken = [entry.seconds for entry in self.entries if entry.step == step]
        return sum(taken) if taken else None

    def cpu_seconds(self, step: str) -> float | None:
        """As much of it as is known; None where nothing is."""
        used = [entry.cpu_seconds for entry in self.entries if entry.step == step and entry.cpu_seconds is not None]
        return sum(used) if used else None


def covered(entries: Iterable[Entry]) -> float:
    """Seconds in which at least one step ran."""
    total, until = 0.0, 0.0
    for entry in sorted(entries, key=lambda entry: entry.began):
        end = entry.began + entry.seconds
        total += max(end - max(entry.began, until), 0.0)
        until = max(until, end)
    return total
