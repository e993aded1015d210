"""One step in processes of its own: their memory is given back, their CPU time is counted, they never outlive the
pipeline. A step of several ranks is as many processes, started here as torchrun would start them on one machine.

When the pipeline is killed, the kernel sends the step SIGTERM, so it saves a checkpoint; the pipeline's next start
waits for that by the step's card. A card lies in RUN/running as long as its step runs; its date is renewed meanwhile,
so it also says how long a step ran that nobody saw the end of.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dsm.config.references import Step
from dsm.errors import LOST_RANK
from dsm.files import atomic_write_text
from dsm.pipeline.journal import Entry
from dsm.runtime.process import ProcessId, end_with_parent

_PATIENCE_S = 120.0  # with steps whose pipeline was killed: they are saving their checkpoints
_RENEW_S = 1.0
TAIL = 20
"""Lines of a failed step's output that the pipeline shows."""


def command(step: Step) -> list[str]:
    """What runs a step."""
    return [sys.executable, "-m", "dsm", *step.overrides]


@dataclass
class StepProcess:
    """A step that runs, or ran.

    Attributes:
        step: which.
        began: when, in seconds since the epoch.
        card: the file that says which process it is.
        output: where its output goes; None: to the terminal.
        pids: of its ranks that still run.
        entry: what the journal shall say, once it has ended.
    """

    step: Step
    began: float
    card: Path
    output: Path | None
    pids: list[int]
    entry: Entry | None = None
    _statuses: list[int] = field(default_factory=list)
    _cpu_seconds: float = 0.0
    _shown_from: int = 0
    _told: int = 0
    _renewed: float = 0.0

    @classmethod
    def start(cls, step: Step, card: Path, output: Path | None, threads: int | None) -> StepProcess:
        """Start it.

        Args:
            step: which.
            card: the file to say which process it is.
            output: the file to append its output to; None: the terminal.
            threads: for the OMP_NUM_THREADS of each rank; None leaves that as it is.
        """
        environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads is not None else {})
        shown_from = 0
        with nullcontext() if output is None else output.open("ab", buffering=0) as sink:
            if sink is not None:
                sink.write(f"$ dsm {shlex.join(step.overrides)}\n".encode())
                shown_from = sink.tell()
            began = time.time()
            pids = []
            for rank in _ranks(step.ranks):
                # A session of its own: Ctrl-C reaches the pipeline alone, which passes it on once.
                child = subprocess.Popen(
                    command(step),
                    env=environment | rank,
                    stdout=sink,
                    stderr=sink,
                    start_new_session=True,
                    preexec_fn=end_with_parent,
                )
                child.returncode = 0  # it is waited for here, by os.wait4
                pids.append(child.pid)
        facts = {"step": step.name, "began": began, "processes": [asdict(ProcessId.of(pid)) for pid in pids]}
        atomic_write_text(card, json.dumps(facts))
        return cls(step, began, card, output, pids, _shown_from=shown_from, _renewed=time.monotonic())

    @property
    def seconds(self) -> float:
        """How long it runs, or ran."""
        return time.time() - self.began if self.entry is None else self.entry.seconds

    def poll(self) -> Entry | None:
        """What it was, if it has ended: 128 + n is the status where signal n killed it."""
        if self.entry is None:
            for rank in list(self.pids):
                pid, status, used = os.wait4(rank, os.WNOHANG)
                if pid:
                    self.pids.remove(rank)
                    code = os.waitstatus_to_exitcode(status)
                    self._statuses.append(code if code >= 0 else 128 - code)
                    self._cpu_seconds += used.ru_utime + used.ru_stime
            if not self.pids:
                seconds, cpu_seconds = round(time.time() - self.began, 3), round(self._cpu_seconds, 3)
                self.entry = Entry(self.step.name, self.began, seconds, _joined(self._statuses), cpu_seconds)
            elif time.monotonic() - self._renewed > _RENEW_S:
                self._renewed = time.monotonic()
                with suppress(OSError):
                    os.utime(self.card)
        return self.entry

    def obey(self, orders: Sequence[int]) -> None:
        """Send it those of the signals that it was not sent yet."""
        for order in orders[self._told :]:
            for pid in self.pids:  # an id is its process's own as long as nobody has waited for that
                os.kill(pid, order)
        self._told = len(orders)

    def newest_line(self) -> str:
        """The last line of its output, as far as that is kept."""
        return (self._lines(2_000) or [""])[-1].strip()

    def tail(self) -> list[str]:
        """The last lines of its output."""
        return self._lines(20_000)[-TAIL:]

    def _lines(self, most: int) -> list[str]:
        if self.output is None:
            return []
        with self.output.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._shown_from, end - most))
            text = file.read().decode(errors="replace")
        return [line.rpartition("\r")[2] for line in text.splitlines() if line.strip()]


def wait_for_orphans(cards: Path) -> list[Entry]:
    """Wait for the steps of a pipeline that was killed; what is known of each: how long it ran."""
    files = {file: json.loads(file.read_text(encoding="utf-8")) for file in sorted(cards.glob("*.json"))}
    end, found = time.monotonic() + _PATIENCE_S, []
    for file, card in files.items():
        orphans, until = [ProcessId(**process) for process in card["processes"]], file.stat().st_mtime
        while any(orphan.state() not in (None, "gone") for orphan in orphans) and time.monotonic() < end:
            time.sleep(0.05)
            until = time.time()
        found.append(Entry(card["step"], card["began"], round(max(until - card["began"], 0.0), 3), None, None))
        file.unlink()
    return found


def _ranks(number: int) -> Iterator[dict[str, str]]:
    """What torchrun would tell each rank in its environment; nothing where a step is one process."""
    if number == 1:
        yield {}
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    everyone = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number}
    for rank in range(number):
        yield {key: str(value) for key, value in (everyone | {"RANK": rank, "LOCAL_RANK": rank}).items()}


def _joined(statuses: Sequence[int]) -> int:
    """How a step ended: as the rank did that was to blame; those that lost it say only that."""
    bad = [status for status in statuses if status]
    return next((status for status in bad if status != LOST_RANK), bad[0] if bad else 0)


def by_signal(status: int | None) -> signal.Signals | None:
    """The signal by which a step was asked to end, and did; None where it ended otherwise."""
    asked = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    return next((one for one in asked if status == 128 + one), None)
