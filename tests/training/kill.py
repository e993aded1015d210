"""A run killed with SIGKILL at random instants, and started again by the same command each time.

The tests do it a few times. By hand, twenty times:

    python -m tests.training.kill --kills 20
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
import time
from pathlib import Path

import torch

from tests.training.harness import DROPOUT, Lab, assert_same_run, curve, run_folder, start


def run_with_kills(command: list[str], runs: Path, instants: list[float]) -> list[str]:
    """Run the command again and again until it ends, killing it so many seconds after its start; then leave it alone.

    Returns:
        what each kill met, one line a kill.
    """
    met = []
    for attempt in range(len(instants) + 1):
        output = runs.with_suffix(".log")
        process = start(command, output)
        process.join(instants[attempt] if attempt < len(instants) else 600.0)
        if process.exitcode is None:
            process.kill()
            process.join()
        if process.exitcode == 0:
            break
        if process.exitcode != -signal.SIGKILL or attempt == len(instants):
            raise AssertionError(f"status {process.exitcode}\n{output.read_text()[-2000:]}")
        met.append(f"{instants[attempt]:.3f} s: {_state(runs)}")
    return met


def _state(runs: Path) -> str:
    """What a killed process left."""
    folders = list((runs / "sft").iterdir()) if (runs / "sft").is_dir() else []
    if not folders:
        return "no run folder"
    names = [path.name for path in (folders[0] / "checkpoints").glob("*")]
    newest = max((name for name in names if name.startswith("step-")), default="no checkpoint")
    half = ", half a checkpoint beside it" if any(name.startswith(".") for name in names) else ""
    export = ", in the export" if (folders[0] / ".export.partial").exists() or (folders[0] / "export").exists() else ""
    return newest + half + export


def main() -> None:
    """Compare a run that is killed with one that is not."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab.build(Path(folder))
        start(["--version"], Path(folder, "first.log")).join()  # the server of processes imports what runs need
        times = []
        for name, steps in (("short", 1), ("undisturbed", arguments.steps)):
            began = time.monotonic()
            start(lab.command(Path(folder, name), DROPOUT, f"trainer.steps={steps}"), Path(folder, "whole.log")).join()
            times.append(time.monotonic() - began)
        # Short enough for all kills to fall before the end: from the start of the process to a few steps in.
        longest = times[0] + 0.8 * (times[1] - times[0]) / arguments.kills
        print(f"start and end {times[0]:.2f} s, {arguments.steps} steps {times[1] - times[0]:.2f} s")
        rng = random.Random(arguments.seed)
        runs = Path(folder, "killed")
        instants = [rng.uniform(0.0, longest) for _ in range(arguments.kills)]
        command = lab.command(runs, DROPOUT, f"trainer.steps={arguments.steps}")
        for line in run_with_kills(command, runs, instants):
            print(line)
        assert_same_run(run_folder(runs), run_folder(Path(folder, "undisturbed")))
        print(f"{len(curve(run_folder(runs)))} lines of metrics, the weights and the optimiser are equal to the bit")


if __name__ == "__main__":
    main()
