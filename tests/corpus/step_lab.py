"""A toy step whose result shows every byte of what it depends on, slow and fragile on request."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from dsm.corpus.steps import DONE, Task
from dsm.errors import UserError


@dataclass(frozen=True)
class ToyStep:
    """Count lines, write their hashes; a line 'kill', 'wrong', 'bug' or 'lie' does so."""

    salt: str = "a"
    seconds: float = 0.0
    name: str = "toy"
    version: str = "1"
    armed: bool = True

    def settings(self) -> dict[str, Any]:
        return {"salt": self.salt}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        lines = [line for path in task.inputs for line in path.read_text().splitlines()]
        (out / "sub").mkdir()
        with (out / "lines.txt").open("w") as file:
            for line in lines:
                file.write(f"{xxhash.xxh3_64_hexdigest(f'{self.salt} {task.name} {line}'.encode())}\n")
                file.flush()
                time.sleep(self.seconds)
                if self.armed and line == "kill":
                    os.kill(os.getpid(), 9)
                if self.armed and line == "wrong":
                    raise UserError("the line is wrong")
                if self.armed and line == "bug":
                    raise ZeroDivisionError("a bug")
        (out / "sub" / "count.txt").write_text(str(len(lines)))
        lie = int(self.armed and "lie" in lines)
        return {"in": len(lines) + lie, "out": len(lines) - 1, "first": 1, "_chars": sum(map(len, lines))}


def inputs(folder: Path, count: int, lines: int = 5) -> list[Task]:
    """Files of numbered lines, one a task."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = []
    for number in range(count):
        path = folder / f"in-{number:03d}.txt"
        path.write_text("".join(f"line {number} {line}\n" for line in range(lines)))
        tasks.append(Task(f"shard-{number:03d}", (path,)))
    return tasks


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, without what done.json tells of the run itself."""
    import json

    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.name == DONE:
            told = json.loads(data)
            del told["seconds"], told["seen"]
            data = json.dumps(told).encode()
        found[path.relative_to(folder).as_posix()] = data
    return found


def main(inputs_folder: str, folder: str, workers: str, seconds: str) -> None:
    """Run the step over all inputs, as a process of its own that a test can kill."""
    from dsm.corpus.executors import LocalExecutor
    from dsm.corpus.steps import run_step

    tasks = [Task(path.stem.replace("in", "shard"), (path,)) for path in sorted(Path(inputs_folder).glob("in-*.txt"))]
    run_step(ToyStep(seconds=float(seconds)), tasks, Path(folder), LocalExecutor(int(workers)))


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
