"""A pipeline killed with SIGKILL in the middle of each of its steps, and started again by the same command each time.

    python -m tests.pipeline.kill_each FOLDER experiment=quickstart
    python -m tests.pipeline.kill_each FOLDER --rounds 3 experiment=paradigm vars.samples=1024 vars.half=512

First the pipeline runs undisturbed in FOLDER/whole. Then it runs in FOLDER/killed, where each step is hit twice a
round: once SIGKILL goes to the step's process, once to the pipeline's. At last it is left alone, and what the two have
left must be the same, but for times, memory and speed: every exported file, all answers, reports and metrics.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

POLL_S = 0.02
MEASURED = ("seconds", "speed/", "memory/", "time/", "_per_s")
"""What is in the names of metrics that differ from run to run on the same machine."""
TIMES = {"items": re.compile(rb'"seconds": [\d.e-]+'), "report.md": re.compile(rb"\b[\d.]+ (s|min|h)\b")}
"""The same in answers, whose programs are timed, and in the report of stage=report."""


@dataclass(frozen=True)
class Kill:
    """One to come: whom it hits in a step, after which part of its work since its (last) start."""

    victim: Literal["step", "pipeline"]
    share: float


def start(settings: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """The pipeline, its output at the end of FOLDER/output.log."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.log").open("ab") as output:
        return subprocess.Popen([sys.executable, "-m", "dsm", *settings], cwd=folder, stdout=output, stderr=output)


def pipeline_of(folder: Path) -> Path | None:
    """The run folder of the one pipeline there."""
    return next((path.parent for path in folder.rglob("pipeline/*/steps")), None)


def runs_of(folder: Path) -> dict[str, Path]:
    """The run folder of each step, in their order."""
    pipeline = pipeline_of(folder)
    links = sorted((pipeline / "steps").iterdir()) if pipeline is not None else []
    return {link.name.partition("-")[2]: link.resolve() for link in links}


def work_seconds(folder: Path) -> dict[str, float]:
    """What each step took from when it had its folder, so without the imports before."""
    pipeline = pipeline_of(folder)
    assert pipeline is not None
    entries = map(json.loads, (pipeline / "steps.jsonl").read_text().splitlines())
    ends = {entry["step"]: entry["began"] + entry["seconds"] for entry in entries}
    return {step: ends[step] - (run / "config.yaml").stat().st_mtime for step, run in runs_of(folder).items()}


def run_with_kills(settings: list[str], folder: Path, seconds: dict[str, float], kills: dict[str, list[Kill]]) -> int:
    """Start the pipeline again and again, kill it as is asked, then let it end.

    Args:
        settings: of the pipeline.
        folder: where it runs.
        seconds: what each step works undisturbed.
        kills: of each step; none are left at the end.

    Returns:
        how many hit; a step may end sooner.
    """
    hits = 0
    while True:
        started = time.time()
        process = start(settings, folder)
        hit = None
        while process.poll() is None and hit is None:
            time.sleep(POLL_S)
            hit = next((step for step in seconds if due(step, folder, started, seconds[step], kills[step])), None)
            if hit is not None:
                kill, at = kills[hit].pop(0), progress(hit, folder, started)
                os.kill(pid_of(hit, folder) if kill.victim == "step" else process.pid, signal.SIGKILL)
                status = process.wait()
                print(
                    f"  {hit:<16} {kill.victim:<8} after {at:5.1f} of {seconds[hit]:5.1f} s: status {status}",
                    flush=True,
                )
                if status != (137 if kill.victim == "step" else -9):
                    raise AssertionError((folder / "output.log").read_text()[-3000:])
                hits += 1
        if hit is None:
            if process.returncode != 0:
                raise AssertionError((folder / "output.log").read_text()[-3000:])
            return hits


def due(step: str, folder: Path, started: float, seconds: float, kills: list[Kill]) -> bool:
    """Is it time for the next kill of a step?"""
    return bool(kills) and progress(step, folder, started) >= kills[0].share * seconds


def progress(step: str, folder: Path, started: float) -> float:
    """Seconds that a step has been at work in this start of the pipeline; below 0 where it is not."""
    run, pipeline = runs_of(folder).get(step), pipeline_of(folder)
    if run is None or pipeline is None or (run / "metrics.json").exists():
        return -1.0
    try:
        began = json.loads((pipeline / "running" / f"{step}.json").read_text())["began"]
        works = (run / "config.yaml").stat().st_mtime
    except FileNotFoundError:
        return -1.0
    return time.time() - works if works >= began >= started else -1.0


def pid_of(step: str, folder: Path) -> int:
    """The process, or the first rank, of a step that runs."""
    pipeline = pipeline_of(folder)
    assert pipeline is not None
    pid: int = json.loads((pipeline / "running" / f"{step}.json").read_text())["processes"][0]["pid"]
    return pid


def left(folder: Path) -> dict[str, str]:
    """A digest of everything that the steps of the pipeline there have left."""
    found = {}
    for step, run in runs_of(folder).items():
        metrics = json.loads((run / "metrics.json").read_text())
        numbers = {key: value for key, value in metrics.items() if not any(word in key for word in MEASURED)}
        found[f"{step}/metrics.json"] = json.dumps(numbers, sort_keys=True)
        files = [file for file in run.glob("export/**/*") if file.is_file()] + sorted(run.glob("items/*.jsonl"))
        files += [run / name for name in ("report.md", "report.html", "report.txt") if (run / name).is_file()]
        if run / "report.md" in files:
            files.remove(run / "report.html")  # the same, and charts of times
        for file in files:
            name, content = file.relative_to(run), file.read_bytes()
            if name.parts[0] in TIMES:
                content = TIMES[name.parts[0]].sub(b"", content)
            found[f"{step}/{name}"] = hashlib.sha256(content).hexdigest()
    return found


def main() -> int:
    """Run the pipeline twice and compare."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings", nargs="+", help="of the pipeline, as for dsm")
    parser.add_argument("--rounds", type=int, default=1, help="how often each step is killed in either way")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    asked = parser.parse_args()
    draw, whole, killed = random.Random(asked.seed), asked.folder / "whole", asked.folder / "killed"
    if start(asked.settings, whole).wait() != 0:
        print((whole / "output.log").read_text()[-3000:], file=sys.stderr)
        return 1
    seconds = work_seconds(whole)
    print(f"undisturbed: {len(seconds)} steps, {sum(seconds.values()):.0f} s of work", flush=True)
    kills: dict[str, list[Kill]] = {step: [] for step in seconds}
    for own in kills.values():  # each goes on where the one before it struck, so all of them fit into its time
        for _ in range(asked.rounds):
            own += [Kill(victim, draw.uniform(0.5, 1.0) / (2 * asked.rounds + 1)) for victim in ("step", "pipeline")]
    hits = run_with_kills(asked.settings, killed, seconds, kills)
    missed = ", ".join(step for step, own in kills.items() if own)
    print(f"{hits} kills" + (f"; ended before all of theirs: {missed}" if missed else ""))
    expected, found = left(whole), left(killed)
    differ = [name for name in expected | found if expected.get(name) != found.get(name)]
    for name in differ:
        print(f"  differs: {name}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{len(expected) - len(differ)} of {len(expected)} files and sets of metrics are the same")
    print(f"{used.ru_utime + used.ru_stime:.0f} s of CPU in all")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
