"""What honest users see: values, output, errors, limits, and workers that come back after the worst."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from pydantic import ValidationError

from dsm.config.sandbox import SandboxConfig
from dsm.errors import UserError
from dsm.sandbox import Execution, Program, Sandbox
from dsm.sandbox import jail as jail_module
from dsm.sandbox.inside.server import Capture
from dsm.sandbox.jail import Jail


def one(sandbox: Sandbox, code: str, result: str | None = None, timeout_s: float | None = None) -> Execution:
    return sandbox.run([Program(code, result, timeout_s)])[0]


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("code", "result", "value"),
    [
        ("answer = 6 * 7", "answer", "42"),
        ("answer = 0.1 + 0.2", "answer", "0.30000000000000004"),
        ("def solution():\n    return 'text'", "solution()", "text"),
        ("def solution(k):\n    return k + 1", "solution(4)", "5"),
        ("from sympy import *\nx = symbols('x')\nanswer = solve(x**2 - 2, x)", "answer", "[-sqrt(2), sqrt(2)]"),
        ("from sympy import *\nanswer = Matrix([[1, Rational(1, 2)]])", "answer", "Matrix([[1, 1/2]])"),
        ("import numpy as np\nanswer = np.float64(0.5)", "answer", "0.5"),
        ("import numpy as np\nanswer = [np.float64(0.5), (np.int64(2), {'a': np.bool_(True)})]", "answer", None),
        ("import numpy as np\nanswer = np.array([[1, 2], [3, 4]])", "answer", "[[1, 2], [3, 4]]"),
        ("answer = None", "answer", "None"),
        ("pass", "answer", None),
        ("pass", "solution()", None),
        ("answer = 2 ** 20_000 % 10**9", "answer", str(2**20_000 % 10**9)),
        ("答案 = 3", "答案", "3"),
    ],
)
def test_value(sandbox: Sandbox, code: str, result: str, value: str | None) -> None:
    if value is None and "np" in code:
        value = "[0.5, (2, {'a': True})]"
    execution = one(sandbox, code, result)
    assert (execution.status, execution.value) == ("ok", value), execution


def test_integers_of_any_length_are_written_out(sandbox: Sandbox) -> None:
    assert one(sandbox, "answer = 10 ** 5_000", "answer").value == "1" + "0" * 5_000


def test_a_call_that_fails_is_an_error_and_not_a_missing_value(sandbox: Sandbox) -> None:
    execution = one(sandbox, "print('so far')\ndef solution():\n    return 1 / 0", "solution()")
    assert (execution.status, execution.value, execution.stdout) == ("error", None, "so far\n")
    assert execution.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert one(sandbox, "def solution():\n    return missing", "solution()").status == "error"


# ---------------------------------------------------------------- output and errors


def test_streams_are_kept_apart_and_in_order(sandbox: Sandbox) -> None:
    execution = one(sandbox, "import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('ü答', end='')")
    assert (execution.stdout, execution.stderr) == ("a\nü答", "b\n")


def test_traceback_is_pythons_without_our_frames(sandbox: Sandbox) -> None:
    execution = one(sandbox, "def half(n):\n    return n / 0\n\nhalf(3)")
    assert execution.status == "error"
    assert execution.stderr.splitlines()[:3] == [
        "Traceback (most recent call last):",
        '  File "<program>", line 4, in <module>',
        "    half(3)",
    ]
    assert execution.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert "inside" not in execution.stderr


def test_syntax_errors_show_the_line(sandbox: Sandbox) -> None:
    execution = one(sandbox, "x = 1\ny = (\n")
    assert execution.status == "error"
    assert execution.stderr.splitlines()[-1] == "SyntaxError: '(' was never closed"
    for broken in ("a\x00b", "\ud800 = 1", "\tif"):
        assert one(sandbox, broken).status == "error"


@pytest.mark.parametrize(
    ("code", "status", "stderr"),
    [
        ("exit()", "ok", ""),
        ("quit(0)", "ok", ""),
        ("import sys; sys.exit()", "ok", ""),
        ("import sys; sys.exit(2)", "error", ""),
        ("raise SystemExit('no solution')", "error", "no solution\n"),
        ("raise KeyboardInterrupt", "error", None),
    ],
)
def test_exits(sandbox: Sandbox, code: str, status: str, stderr: str | None) -> None:
    execution = one(sandbox, f"answer = 1\n{code}", "answer")
    assert execution.status == status
    assert execution.value == ("1" if status == "ok" else None)
    assert stderr is None or execution.stderr == stderr


def test_of_long_output_the_ends_are_kept() -> None:
    capture = Capture(100)
    for number in range(1000):
        capture.add(f"{number:03}\n".encode())
    lines = capture.text().splitlines()
    assert lines[:3] == ["000", "001", "002"]
    assert lines[-2:] == ["998", "999"]
    assert f"[... {4000 - 100} bytes left out ...]" in lines
    assert capture.total == 4000


@pytest.mark.parametrize("size", [0, 1, 74, 75, 76, 99, 100])
def test_output_that_fits_is_whole(size: int) -> None:
    capture = Capture(100)
    for _ in range(size):
        capture.add(b"x")
    assert capture.text() == "x" * size


def test_the_last_line_of_a_long_output_survives(sandbox: Sandbox) -> None:
    execution = one(sandbox, "for i in range(50_000): print(i)")
    assert execution.status == "ok"
    assert execution.stdout.splitlines()[-1] == "49999"
    assert len(execution.stdout) < 70_000


def test_what_was_printed_before_a_timeout_is_not_lost(sandbox: Sandbox) -> None:
    execution = one(sandbox, "print('step 1')\nwhile True: pass", timeout_s=0.3)
    assert (execution.status, execution.stdout) == ("timeout", "step 1\n")
    assert 0.3 <= execution.seconds < 3


def test_memory_error_has_its_traceback(sandbox: Sandbox) -> None:
    execution = one(sandbox, "x = [0] * 10**12")
    assert execution.status == "memory"
    assert execution.stderr.splitlines()[-1] == "MemoryError"


# ---------------------------------------------------------------- the program's world


def test_programs_are_main_and_may_define_what_modules_may(sandbox: Sandbox) -> None:
    code = """
from dataclasses import dataclass
import pickle, typing

@dataclass
class Point:
    x: int

if __name__ == "__main__":
    answer = pickle.loads(pickle.dumps(Point(3))).x + len(typing.get_type_hints(Point))
"""
    assert one(sandbox, code, "answer").value == "4"


def test_threads_that_are_no_daemons_are_waited_for(sandbox: Sandbox) -> None:
    code = "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print('done'))).start()"
    assert one(sandbox, code).stdout == "done\n"


def test_the_same_program_gives_the_same_result(sandbox: Sandbox) -> None:
    code = "import random, numpy as np\nprint(random.random(), np.random.rand(), {'b', 'a', 'c'}, hash('x'))"
    assert len({execution.stdout for execution in sandbox.run([Program(code)] * 6)}) == 1


def test_usual_libraries_work(sandbox: Sandbox) -> None:
    code = """
import collections, datetime, decimal, fractions, functools, heapq, itertools, json, math, re, statistics, string
import numpy as np
from scipy_or_not import nothing
"""
    assert one(sandbox, code).stderr.splitlines()[-1].startswith("ModuleNotFoundError")
    code = """
import ctypes, datetime, math, numpy as np, signal, sympy
signal.signal(signal.SIGALRM, lambda *a: None); signal.alarm(100); signal.alarm(0)
print(np.linalg.eigvalsh([[2, 0], [0, 3]]).tolist(), sympy.N(sympy.pi, 30), math.comb(5, 2), datetime.date(2024, 2, 29))
"""
    assert one(sandbox, code).stdout == "[2.0, 3.0] 3.14159265358979323846264338328 10 2024-02-29\n"


# ---------------------------------------------------------------- many programs, threads, loops


def test_results_come_in_order_and_no_program_disturbs_another(sandbox: Sandbox) -> None:
    bad = ["import os; os._exit(1)", "import ctypes; ctypes.string_at(0)", "x = bytearray(1 << 40)", "1 / 0"]
    programs = [Program(bad[n // 3 % 4] if n % 3 == 0 else f"print({n})") for n in range(36)]
    executions = sandbox.run(programs)
    for n, execution in enumerate(executions):
        if n % 3:
            assert (execution.status, execution.stdout) == ("ok", f"{n}\n")
        else:
            assert execution.status == ["crashed", "crashed", "memory", "error"][n // 3 % 4]


def test_any_thread_may_ask(sandbox: Sandbox) -> None:
    seen: dict[int, list[str]] = {}

    def ask(number: int) -> None:
        seen[number] = [e.stdout for e in sandbox.run([Program(f"print({number}, {k})") for k in range(5)])]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {number: [f"{number} {k}\n" for k in range(5)] for number in range(6)}


def test_asyncio_waits_without_blocking(sandbox: Sandbox) -> None:
    async def work() -> tuple[list[Execution], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        programs = [Program("import time; time.sleep(0.2); print(1)")] * 2
        executions = await asyncio.gather(*(asyncio.wrap_future(sandbox.submit(program)) for program in programs))
        ticking.cancel()
        return executions, ticks

    executions, ticks = asyncio.run(work())
    assert [execution.stdout for execution in executions] == ["1\n", "1\n"]
    assert ticks > 5


def test_closing_cancels_what_waits_and_finishes_what_runs(jail_possible: None) -> None:
    sandbox = Sandbox(SandboxConfig(workers=1, preload=[]))
    running = sandbox.submit(Program("import time; time.sleep(0.5); print('finished')"))
    while not running.running():
        time.sleep(0.01)
    waiting = sandbox.submit(Program("print(1)"))
    sandbox.close()
    sandbox.close()
    assert running.result().stdout == "finished\n"
    with pytest.raises(CancelledError):
        waiting.result()
    with pytest.raises(RuntimeError, match="closed"):
        sandbox.submit(Program("print(1)"))


# ---------------------------------------------------------------- workers that are lost


def processes_of(parent: int) -> list[int]:
    """The descendants of a process."""
    children = [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return [*children, *(below for child in children for below in processes_of(child))]


def test_a_killed_jail_is_replaced_and_its_program_crashed(jail_possible: None) -> None:
    with Sandbox(SandboxConfig(workers=1, preload=[])) as sandbox:
        assert one(sandbox, "print(1)").stdout == "1\n"
        future = sandbox.submit(Program("import time; time.sleep(60)"))
        after = sandbox.submit(Program("print(2)"))
        time.sleep(0.3)
        for pid in _jails():
            os.kill(pid, signal.SIGKILL)
        assert future.result(10).status == "crashed"
        assert after.result(20).stdout == "2\n"


def test_a_stuck_server_is_replaced_and_its_program_late(jail_possible: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jail_module, "_GRACE_S", 0.3)
    with Sandbox(SandboxConfig(workers=1, preload=[])) as sandbox:
        assert one(sandbox, "print(1)").stdout == "1\n"
        servers = [child for pid in _jails() for child in processes_of(pid)]
        assert servers
        for pid in servers:
            os.kill(pid, signal.SIGSTOP)
        assert one(sandbox, "print(2)", timeout_s=0.2).status == "timeout"
        assert one(sandbox, "print(3)").stdout == "3\n"


def _jails() -> list[int]:
    """Our own children that are bubblewrap, of the sandbox with one worker that is the last to have been made."""
    tasks = Path("/proc/self/task").iterdir()
    children = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    return sorted(pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "bwrap\n")[-1:]


def test_a_jail_ends_with_everything_in_it(jail_possible: None) -> None:
    jail = Jail(SandboxConfig(preload=[]))
    inside = [jail._process.pid, *processes_of(jail._process.pid)]
    assert len(inside) >= 2
    jail.close()
    deadline = time.monotonic() + 10
    while any(map(alive, inside)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, inside))


def alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_worker_that_cannot_start_says_so(jail_possible: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = Sandbox(SandboxConfig(workers=1, preload=["no_such_module"]))
    with sandbox, pytest.raises(UserError, match="no_such_module"):
        one(sandbox, "print(1)")


@pytest.mark.parametrize(
    ("field", "value"), [("workers", 0), ("timeout_s", 0.0), ("memory_mb", 10), ("threads", 0), ("uid", 0), ("uids", 1)]
)
def test_settings_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        SandboxConfig(**{field: value})  # type: ignore[arg-type]
