"""Functions of the user's own are looked at before they are run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsm.config.functions import check_call, find_function

SOURCE = """
import json as codec
from os import path
raise SystemExit("never run")

def brief(completions, room=200, **columns): ...
def ranks(samples, power, *, scale=1): ...
async def slow(prompts): ...
@cached
def wrapped(samples): ...
class Judge: ...
if True:
    inner = lambda samples: 0
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    file = tmp_path / "mine.py"
    file.write_text(SOURCE)
    return str(file)


@pytest.mark.parametrize("name", ["brief", "ranks", "slow"])
def test_a_plain_function_is_found_without_being_run(name: str, mine: str) -> None:
    found = find_function(f"{mine}:{name}")
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("name", ["wrapped", "Judge", "inner", "codec", "path", "Judge.method"])
def test_what_else_may_be_called_is_not_judged(name: str, mine: str) -> None:
    assert find_function(f"{mine}:{name}") is None


def test_a_missing_file_is_told_with_its_setting() -> None:
    with pytest.raises(ValueError, match=r"function=nowhere\.py:f: no such file nowhere\.py"):
        find_function("nowhere.py:f")


def test_packages_are_not_looked_into() -> None:
    assert find_function("no_such_package.module:name") is None


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        (SOURCE, "breif", r"mine.py has no breif \(did you mean brief\?\); it has brief, ranks, slow, wrapped"),
        ("", "f", r"mine.py has no f$"),
        ("def f(:", "f", r"cannot be read as Python: .*line 1"),
        ("def f(): ...", "f()", r"must be package.module:name or path/file.py:name"),
    ],
)
def test_what_is_not_there_is_told(source: str, name: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source)
    with pytest.raises(ValueError, match=said):
        find_function(f"{file}:{name}")


def test_what_a_star_brings_cannot_be_known(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from neighbour import *\n")
    assert find_function(f"{file}:anything") is None


@pytest.mark.parametrize(
    ("name", "given", "before", "said"),
    [
        ("ranks", {"power": 2}, 1, None),
        ("ranks", {"power": 2, "scale": 3}, 1, None),
        ("brief", {"completions": [], "anything": 1}, 0, None),
        (
            "ranks",
            {"pwoer": 2},
            1,
            r"options.pwoer: ranks has no such parameter \(did you mean power\?\); it takes",
        ),
        ("ranks", {"samples": 1, "power": 2}, 1, "options.samples: ranks has no such parameter"),
        ("ranks", {}, 1, "options: ranks needs power too"),
        ("slow", {"room": 1}, 1, "options.room: slow has no such parameter; it takes none"),
        ("brief", {"room": 1}, 0, "options: brief needs completions too"),
    ],
)
def test_calls(name: str, given: dict[str, Any], before: int, said: str | None, mine: str) -> None:
    found = find_function(f"{mine}:{name}")
    assert found is not None
    if said is None:
        check_call(found, given, "options", before)
    else:
        with pytest.raises(ValueError, match=said):
            check_call(found, given, "options", before)
