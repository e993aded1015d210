"""Run every attack in jails, each followed by an honest program in the same jail; print what came of it as JSON.

    python -m tests.sandbox.siege [--uid UID] [--weaker]

A process of its own, for it becomes another user with `--uid`, and puts a secret where children of a careless sandbox
would find it. The targets are here: listening sockets, files, a bystander.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dsm.config.sandbox import SandboxConfig
from dsm.sandbox import Execution, Program
from dsm.sandbox.inside import seccomp
from dsm.sandbox.jail import Jail, readable_paths
from dsm.sandbox.launch import become, open_the_way
from tests.sandbox.attacks import MEMORY, NETWORK, OUTPUT, PROCESSES, READING, SIGNALS, TIME, WRITING, Attack
from tests.sandbox.attacks_within import KERNEL, SERVER

GROUPS = {
    "network": NETWORK,
    "reading": READING,
    "writing": WRITING,
    "memory": MEMORY,
    "processes": PROCESSES,
    "signals": SIGNALS,
    "time": TIME,
    "output": OUTPUT,
    "server": SERVER,
    "kernel": KERNEL,
}
ATTACKS: dict[str, Attack] = {f"{group}-{name}": a for group, table in GROUPS.items() for name, a in table.items()}

HONEST = Program(
    """
import json, os, random, sys
import numpy as np
from sympy import Rational, solve, sqrt
marks = [hasattr(sys, "mark"), "MARK" in os.environ, os.path.exists("escaped"), os.path.exists("/tmp/escaped")]
def solution():
    return [sqrt(8) + Rational(1, 2), callable(solve), np.arange(4).sum(), np.random.rand(), random.random(), marks]
print("honest")
""",
    "solution()",
)
HONEST_VALUE = "[1/2 + 2*sqrt(2), True, 6, 0.5488135039273248, 0.8444218515250481, [False, False, False, False]]"

_JAILS = 4
CONFIG = SandboxConfig(
    memory_mb=512,
    threads=16,
    output_kb=16,
    uid=56_000 + os.getpid() % 1_000 * _JAILS,  # nobody else's, so that survivors can be told
)


@dataclass
class Outcome:
    """What came of one attack, and of the honest program after it."""

    attack: Execution
    alive: bool
    honest: Execution


class World:
    """What attacks aim at."""

    def __init__(self, folder: Path, secret: str) -> None:
        self.folder, self.secret = folder, secret
        folder.chmod(0o755)
        (folder / "secret").write_text(secret)
        (folder / "secret").chmod(0o644)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.abstract = self._unix(f"\0dsm-siege-{os.getpid()}")
        self.path = self._unix(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        self.bystander = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])

    def _unix(self, address: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen()
        return listener

    def describe(self) -> dict[str, Any]:
        """The addresses, as attacks read them."""
        machine = seccomp._ARCHITECTURES[os.uname().machine]
        return {
            "tcp": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "abstract": self.abstract.getsockname().decode(),
            "socket": str(self.folder / "socket"),
            "secret": str(self.folder / "secret"),
            "folder": str(self.folder),
            "repository": str(Path(__file__).resolve().parents[2]),
            "caller": os.getpid(),
            "bystander": self.bystander.pid,
            "allowed": sorted(seccomp._numbers(seccomp._ALLOWED + seccomp._CHECKED, machine).values()),
        }

    def damage(self) -> list[str]:
        """What the attacks reached, after all of them."""
        found = []
        for name, target in (("tcp", self.tcp), ("udp", self.udp), ("abstract", self.abstract), ("path", self.path)):
            target.setblocking(False)
            try:
                target.recvfrom(1) if name == "udp" else target.accept()
                found.append(f"{name} was reached")
            except BlockingIOError:
                pass
        if left := sorted(path.name for path in self.folder.iterdir() if path.name not in ("secret", "socket")):
            found.append(f"files were written: {left}")
        if (self.folder / "secret").read_text() != self.secret:
            found.append("the secret was changed")
        if self.bystander.poll() is not None or os.getpriority(os.PRIO_PROCESS, self.bystander.pid) != 0:
            found.append("the bystander was touched")
        self.bystander.kill()
        self.bystander.wait()
        return found


def besiege(world: World, *, weaker: bool) -> dict[str, Outcome]:
    """Every attack once, in a few jails at a time."""
    names = [name for name, attack in ATTACKS.items() if os.uname().machine == "x86_64" or not attack.x86_only]
    names.sort(key=lambda name: ATTACKS[name].ends != "timeout")  # those that wait first
    setting = f"WORLD = {world.describe()!r}\n"
    outcomes: dict[str, Outcome] = {}

    def work(number: int) -> None:
        jail = Jail(CONFIG, weaker=weaker, number=number)
        try:
            while names:
                name = names.pop(0)
                attack = ATTACKS[name]
                timeout_s = 0.25 if attack.ends == "timeout" else 4.0
                came, alive = jail.run(Program(setting + attack.code, attack.result, timeout_s))
                if not alive:
                    jail.close()
                    jail = Jail(CONFIG, weaker=weaker, number=number)
                outcomes[name] = Outcome(came, alive, jail.run(Program(HONEST.code, HONEST.result, 20.0))[0])
        finally:
            jail.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_JAILS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def survivors(before: set[int]) -> list[str]:
    """Processes of the users that the jails ran as that were not there before, and still are."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:
            continue
        uid, pid = int(lines["Uid"].split()[0]), int(lines["Pid"])
        of_jails = range(CONFIG.uid, CONFIG.uid + _JAILS) if os.getuid() == 0 else (os.getuid(),)
        if uid in of_jails and pid not in before and pid != os.getpid() and not lines["State"].startswith("Z"):
            found.append(f"{lines['Name']} {pid}")
    return found


def main() -> None:
    """The siege."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int)
    parser.add_argument("--weaker", action="store_true")
    arguments = parser.parse_args()
    uid = os.getuid()
    if arguments.uid is not None:
        uid = arguments.uid
        open_the_way([*readable_paths(), str(Path(__file__).resolve().parents[2])])
        become(arguments.uid)
    before = {int(folder.name) for folder in Path("/proc").glob("[0-9]*")}
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), os.environ["DSM_TEST_SECRET"])
        outcomes = besiege(world, weaker=arguments.weaker)
        damage = world.damage()
    for _ in range(20):
        if not (left := survivors(before)):
            break
        time.sleep(0.1)
    result = {name: asdict(outcome) for name, outcome in sorted(outcomes.items())}
    damage += [f"{process} lives on" for process in left]
    json.dump({"outcomes": result, "damage": damage, "threads": not arguments.weaker or uid == 0}, sys.stdout)


if __name__ == "__main__":
    main()
