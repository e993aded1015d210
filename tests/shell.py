"""Commands of documents as bash passes them: what they would start is written down in its place."""

from __future__ import annotations

import subprocess
from pathlib import Path

# A launcher's flags come before the command, in this order; anything else is refused.
_SHELL = r"""
set -euo pipefail
ranks=1
: > commands
make() { :; }
source() { :; }
dsm() {
  if [ "${skip:-0}" -gt 0 ]; then skip=$((skip - 1)); return; fi
  printf '%s\0' "$ranks" "$@" $'\n' >> commands
  if [ -n "${skip:-}" ]; then exit; fi
}
torchrun() {
  local nodes=1
  if [ "$1" = --nnodes ]; then
    nodes=$2; shift 2
    [ "$3 $4 $5 $6" = "--rdzv-backend c10d --rdzv-endpoint HOST:29500" ]
    set -- "$1" "$2" "${@:7}"
  fi
  [ "$1 $3 $4" = "--nproc-per-node -m dsm" ]
  ranks=$((nodes * $2)) dsm "${@:5}"
}
srun() {
  [ "$1 $3 $5 $7 $9 ${10}" = \
    "--nodes --ntasks-per-node --gpus-per-node --cpus-per-task --kill-on-bad-exit=1 dsm" ]
  [ "$4" = "$6" ]
  ranks=$(($2 * $4)) dsm "${@:11}"
}
"""


def launched(shell: str, folder: Path, after: int | None = None) -> list[tuple[int, list[str]]]:
    """(ranks, arguments) of every `dsm` that the lines would start in a folder.

    The ranks are what torchrun, srun or submitit were asked for; 1 without them.

    Args:
        after: pass over so many commands, which have run, and stop at the next one: those behind it may need what it
            leaves.
    """
    first = "" if after is None else f"skip={after}\n"
    subprocess.run(["bash", "-c", first + _SHELL + shell], cwd=folder, check=True)
    found = []
    for line in (folder / "commands").read_text(encoding="utf-8").split("\n\0")[:-1]:
        ranks, *arguments = line.split("\0")[:-1]
        settings = dict(argument.partition("=")[::2] for argument in arguments)
        if settings.get("hydra/launcher") == "submitit_slurm":
            ranks = str(int(settings["hydra.launcher.nodes"]) * int(settings["hydra.launcher.tasks_per_node"]))
        found.append((int(ranks), arguments))
    return found


def to_plan(arguments: list[str]) -> list[str]:
    """The command with mode=plan, unless it has it or only shows something."""
    return arguments if {"mode=plan", "--help", "--cfg", "--info"} & set(arguments) else [*arguments, "mode=plan"]
