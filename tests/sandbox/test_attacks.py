"""None of the attacks gets out, and the server that one was run by then runs an honest program as if nothing had been.

Three sieges, each in a process of its own: as root (who becomes another user), as a user, and without the jail.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from dsm.sandbox.inside import landlock
from tests.sandbox.siege import ATTACKS, GROUPS, HONEST_VALUE

SECRET = "opensesame-4711"
SIEGES = {"root": [], "user": ["--uid", str(60_000 + os.getpid() % 4_000)], "weaker": ["--weaker"]}

_found: dict[str, dict[str, Any]] = {}


@pytest.fixture(scope="module")
def _sieges(jail_possible: None) -> dict[str, Any]:
    """All that are possible here, at the same time."""
    if os.getuid() == 0:
        chosen = {name: SIEGES[name] for name in ("root", "user", "weaker")}
    else:
        chosen = {"user": [], "weaker": SIEGES["weaker"]}
    environment = {**os.environ, "DSM_TEST_SECRET": SECRET, "OMP_NUM_THREADS": "1"}
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", "tests.sandbox.siege", *options], stdout=subprocess.PIPE, env=environment
        )
        for name, options in chosen.items()
    }
    return {name: json.loads(process.communicate(timeout=200)[0]) for name, process in started.items()}


@pytest.fixture(scope="module", params=SIEGES)
def siege(request: pytest.FixtureRequest, _sieges: dict[str, Any]) -> dict[str, Any]:
    if request.param == "weaker" and not landlock.available():
        pytest.skip("this kernel has no Landlock: without a jail, programs can read files here")
    if request.param not in _sieges:
        pytest.skip("started by an ordinary user, this cannot be tried as root")
    return _sieges[request.param]


@pytest.mark.parametrize("group", GROUPS)
def test_every_attack_is_contained(siege: dict[str, Any], group: str) -> None:
    outcomes = {name: outcome for name, outcome in siege["outcomes"].items() if name.startswith(f"{group}-")}
    assert outcomes
    for name, outcome in outcomes.items():
        execution = outcome["attack"]
        everything = f"{execution['stdout']}{execution['stderr']}{execution['value']}"
        started = siege["threads"] or "can't start new thread" not in everything
        assert not started or execution["status"] in ATTACKS[name].ends.split(), f"{name}: {execution}"
        assert "ESCAPED" not in everything, f"{name}: {execution}"
        assert SECRET not in everything, f"{name}: {execution}"
        assert execution["seconds"] < 5.0, f"{name}: {execution}"
        assert len(everything) < 3 * 17_000, f"{name}: output was not cut"


def test_the_server_lives_and_its_next_program_notices_nothing(siege: dict[str, Any]) -> None:
    for name, outcome in siege["outcomes"].items():
        assert outcome["alive"], f"{name}: the server was lost"
        honest = outcome["honest"]
        assert (honest["status"], honest["stdout"], honest["value"]) == ("ok", "honest\n", HONEST_VALUE), (
            f"{name}: {honest}"
        )


def test_nothing_outside_was_reached_or_left_running(siege: dict[str, Any]) -> None:
    assert siege["damage"] == []


def test_the_attacks_are_many_and_none_was_left_out(siege: dict[str, Any]) -> None:
    tried = len(siege["outcomes"])
    left_out = sum(attack.x86_only for attack in ATTACKS.values()) if os.uname().machine != "x86_64" else 0
    assert tried + left_out == len(ATTACKS) >= 100
