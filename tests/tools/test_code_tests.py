"""HumanEval and MBPP: programs from completions; what passes, what fails, and what must not pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsm.config.tools import ToolConfig
from dsm.sandbox import Program, Sandbox
from dsm.tools.code_tests import CodeTask, assemble, run_tests

CONFIG = ToolConfig(timeout_s=5.0)
PROMPT = (
    "import math\nfrom typing import List\n\n\ndef helper(x):\n    return x\n\n\n"
    'def area(r: float) -> float:\n    """Area."""\n'
)
BODY = "    return helper(math.pi) * r * r\n"
HEAD = PROMPT[: PROMPT.index("def area")]
FUNCTION = "def area(r):\n    return helper(math.pi) * r * r\n"


# ---------------------------------------------------------------- assembly


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        (BODY, PROMPT + BODY.rstrip()),
        (BODY + "\n\ndef other():\n    pass\n", PROMPT + BODY.rstrip()),
        (BODY + "\nprint(area(2))\n", PROMPT + BODY.rstrip()),
        (BODY + "\n# Test\n", PROMPT + BODY.rstrip()),
        ("return 1\n", PROMPT + "    return 1"),
        ("x = 1\n    return x\n", PROMPT + "    x = 1\n    return x"),
        ("for i in [1]:\n    r = i\nreturn r", PROMPT + "    for i in [1]:\n        r = i\n    return r"),
        (f"Sure:\n```python\n{FUNCTION}```\nIt works.", HEAD + FUNCTION),
        (f"```python\n{HEAD}{FUNCTION}```", HEAD + HEAD + FUNCTION),
        (f"```\n{FUNCTION}```", HEAD + FUNCTION),
        (f"```python\n{FUNCTION}", HEAD + FUNCTION),
        (f"```python\nbroken\n```\n```python\n{FUNCTION}```", HEAD + FUNCTION),
        (f"```python\n{BODY}```", PROMPT + BODY.rstrip()),
        ("```python\nreturn 1\n```", PROMPT + "    return 1"),
        (FUNCTION, HEAD + FUNCTION),
        ("  \n", None),
        ("", None),
    ],
)
def test_a_function_to_complete(completion: str, program: str | None) -> None:
    found = assemble(CodeTask(completion, "", PROMPT, "area"))
    assert (found.rstrip() if found else found) == (program.rstrip() if program else program)


def test_a_prompt_that_ends_within_a_line() -> None:
    assert assemble(CodeTask(" + 1\n", "", "def f(x):\n    return x", "f")) == "def f(x):\n    return x + 1\n"


def test_a_task_in_words() -> None:
    assert assemble(CodeTask("\ndef f(x):\n    return x\n", "")) == "def f(x):\n    return x"
    assert assemble(CodeTask("Here:\n```python\ndef f(x):\n    return x\n```\nDone", "")) == "def f(x):\n    return x\n"


# ---------------------------------------------------------------- verdicts


def reasons(sandbox: Sandbox, tests: str, *programs: str, entry_point: str | None = None) -> list[str]:
    """Why each program does not pass, or "correct"."""
    tasks = [CodeTask(f"```python\n{program}\n```", tests, entry_point=entry_point) for program in programs]
    verdicts = run_tests(tasks, sandbox, ToolConfig(timeout_s=2.0))
    return [verdict.reason if verdict.outcome == "wrong" else verdict.outcome for verdict in verdicts]


TESTS = (
    "import math\nassert double(2) == 4\nassert math.isclose(double(0.5), 1.0)\n"
    "assert all(double(n) == 2 * n for n in range(9))"
)
DOUBLE = "def double(x):\n    return 2 * x"


def test_honest_programs(sandbox: Sandbox) -> None:
    assert (
        reasons(
            sandbox,
            TESTS,
            DOUBLE,
            f"{DOUBLE}\nprint('hi')\nif __name__ == '__main__':\n    input()",
            "double = lambda x: x + x",
            "class double(float):\n    def __new__(cls, x):\n        return float(2 * x)",
            "from functools import partial\nfrom operator import mul\ndouble = partial(mul, 2)",
            "import numpy\ndef double(x):\n    return numpy.float64(2) * x",
        )
        == ["correct"] * 6
    )


def test_honest_failures(sandbox: Sandbox) -> None:
    found = reasons(
        sandbox,
        TESTS,
        "def double(x):\n    return 3 * x",
        "def double(x):\n    return y",
        "def twice(x):\n    return 2 * x",
        "def double(x)\n    return 2 * x",
        "def double(x):\n    while True:\n        pass",
        "def double(x):\n    return double(x)",
        "raise ValueError('no')",
    )
    assert found == [
        "failed",
        "error: NameError: name 'y' is not defined",
        "error: NameError: name 'double' is not defined",
        "error: SyntaxError: expected ':' (<solution>, line 1)",
        "timeout",
        "error: RecursionError: maximum recursion depth exceeded",
        "error: ValueError: no",
    ]
    (verdict,) = run_tests([CodeTask("", TESTS)], sandbox, CONFIG)
    assert verdict.outcome == "ungradable"
    assert reasons(sandbox, "assert f() ==", "def f():\n    return 2") == ["ungradable"]
    assert reasons(sandbox, "assert f() == 1, 'one'", "def f():\n    return 2") == ["failed: AssertionError: one"]


ALWAYS = """
class Always:
    def __eq__(self, other): return True
    def __bool__(self): return True
    def __lt__(self, other): return True
    def __abs__(self): return 0
    def __sub__(self, other): return 0
    __rsub__ = __le__ = __hash__ = __lt__
"""
FORGERIES = {
    "exit": "import sys\ndef double(x):\n    sys.exit(0)",
    "exit at once": "raise SystemExit",
    "hard exit": "import os\ndef double(x):\n    os._exit(0)",
    "hard exit at once": "import os\nos._exit(0)",
    "prints": "def double(x):\n    print('OK\\npassed')\nprint('passed')",
    "equal to everything": f"{ALWAYS}\ndef double(x):\n    return Always()",
    "a float that is": f"{ALWAYS}\nclass Float(Always, float): pass\ndef double(x):\n    return Float(7)",
    "a class that is": "class Meta(type):\n    def __eq__(cls, other): return True\n    def __hash__(cls): return 0\n"
    "class It(metaclass=Meta):\n    __eq__ = lambda self, other: True\n    __hash__ = lambda self: 0\n"
    "def double(x):\n    return It()",
    "a class in disguise": f"{ALWAYS}\nclass It(Always):\n    __class__ = float\ndef double(x):\n    return It()",
    "hidden in a partial": f"{ALWAYS}\nfrom functools import partial\ndouble = partial(lambda x: Always())",
    "patched builtins": "import builtins\nbuiltins.all = lambda _: True\nbuiltins.AssertionError = ValueError\n"
    "builtins.isinstance = lambda *_: True\ndef double(x):\n    return {2: 4, 0.5: 1.0}.get(x)",
    "patched while it runs": "import builtins\ndef double(x):\n    builtins.all = lambda _: True\n"
    "    import math\n    math.isclose = lambda *_: True\n    return {2: 4}.get(x)",
    "shadowed builtins": "all = lambda _: True\nrange = lambda n: []\n"
    "def double(x):\n    return {2: 4, 0.5: 1.0}.get(x)",
    "patched module": "import math\nmath.isclose = lambda *_: True\ndef double(x):\n    return {0.5: 0}.get(x, 2 * x)",
    "another module": "import sys, types\nfake = types.ModuleType('math')\nfake.isclose = lambda *_: True\n"
    "sys.modules['math'] = fake\ndef double(x):\n    return {0.5: 0}.get(x, 2 * x)",
    "names of the harness": "word = passed = True\ndef examine(*_): return True\ndef double(x):\n    return 0",
    "the main module": "import __main__\ndef double(x):\n    vars(__main__).clear()\n    return 0",
    "the line cache": "import linecache, re\nfound = re.findall('[0-9a-f]{32}', str(linecache.cache))\n"
    "def double(x):\n    return found[0]",
    "a trace function": "import sys\ndef jump(frame, event, argument):\n"
    "    if event == 'line' and 'double' in frame.f_code.co_names:\n"
    "        frame.f_lineno += 2\n    return jump\ndef double(x):\n    frame = sys._getframe(1)\n"
    "    while frame:\n        frame.f_trace = jump\n        frame = frame.f_back\n"
    "    sys.settrace(jump)\n    return 4",
    "catches the failure": "import sys\nsys.excepthook = lambda *_: None\nclass AssertionError(Exception): pass\n"
    "def double(x):\n    return 0",
}  # fmt: skip


EQUALITY = "assert double(2) == 4\nassert double(0.5) == 1.0\nassert double(3) == 6\ndone = True"


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("tests", [TESTS, EQUALITY], ids=["functions", "equality"])
def test_a_program_cannot_talk_its_way_through(sandbox: Sandbox, name: str, tests: str) -> None:
    (reason,) = reasons(sandbox, tests, FORGERIES[name])
    assert reason != "correct"


def test_tests_that_are_simply_appended_are_deceived_by_most_of_them(sandbox: Sandbox) -> None:
    deceived = {
        name
        for tests in (TESTS, EQUALITY)
        for name, program in FORGERIES.items()
        if sandbox.run([Program(f"{program}\n{tests}")])[0].status == "ok"
    }
    assert len(deceived) >= 13
    assert {"exit", "equal to everything", "patched builtins", "another module", "a trace function"} <= deceived


def test_containers_are_compared_by_what_is_in_them(sandbox: Sandbox) -> None:
    tests = "assert list(f()) == [1, 2]\nassert sorted(f()) == [1, 2]"
    always = "class A(int):\n    __eq__ = lambda *_: True\n    __hash__ = int.__hash__\n"
    honest = ["return [1, 2]", "return (1, 2)", "return {1: 0, 2: 0}", "return iter([1, 2])",
              "return {1: 1, 2: 2}.values()", "yield 1\n    yield 2",
              "from collections import deque\n    return deque([1, 2])",
              "import numpy\n    return numpy.array([1, 2])"]  # fmt: skip
    forged = ["return [A(5), A(6)]", "return iter([A(5), A(6)])", "return {A(5): 0, A(6): 0}",
              "yield A(5)\n    yield A(6)", "return map(A, [5, 6])",
              "from collections import deque\n    return deque([A(5), A(6)])",
              "from types import SimpleNamespace as S\n    return S(a=A(5))"]  # fmt: skip
    programs = [f"{always}\ndef f():\n    {body}" for body in [*honest, *forged]]
    assert [reason == "correct" for reason in reasons(sandbox, tests, *programs)] == [True] * 8 + [False] * 7


def test_classes_of_the_programs_own(sandbox: Sandbox) -> None:
    tests = """
s = Stack(3)
s.push(4)
assert s.pop() == 4 and len(s) == 1 and s[0] == 3 and 3 in s
assert [part for part in s] == [3]
assert isinstance(s, Stack) and not isinstance(3, Stack)
assert s == Stack(3) and s != Stack(4) and Stack(1) < Stack(2)
assert total([Stack(1), Stack(2)]) == 3
s.limit = 7
assert s.limit == 7
try:
    Stack(3).fail()
    assert False
except KeyError:
    pass
"""
    program = """
class Stack:
    def __init__(self, *items): self.items = list(items)
    def push(self, item): self.items.append(item)
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
    def __getitem__(self, place): return self.items[place]
    def __eq__(self, other): return self.items == other.items
    def __lt__(self, other): return self.items < other.items
    def fail(self): raise KeyError
def total(stacks): return sum(stack.pop() for stack in stacks)
"""
    assert reasons(sandbox, tests, program, program.replace("return sum(", "return 0 * sum(")) == ["correct", "failed"]


def test_a_tested_function_may_bear_the_name_of_a_builtin(sandbox: Sandbox) -> None:
    program = "def sum(a, b):\n    return a + b"
    assert reasons(sandbox, "assert sum(1, 2) == 3", program) == ["correct"]
    assert reasons(sandbox, "def check(f):\n    assert f(1, 2) == 3\ncheck(sum)", program, entry_point="sum") == [
        "correct"
    ]


def human_eval(shared_data: Path) -> list[dict[str, str]]:
    lines = (shared_data / "math" / "humaneval" / "test.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def verdicts(rows: list[dict[str, str]], completions: list[str], sandbox: Sandbox) -> list[bool]:
    tasks = [
        CodeTask(completion, f"{row['test']}\ncheck({row['entry_point']})", row["prompt"], row["entry_point"])
        for row, completion in zip(rows, completions, strict=True)
    ]
    return [verdict.correct for verdict in run_tests(tasks, sandbox, CONFIG)]


def test_canonical_solutions_pass_in_every_form(shared_data: Path, sandbox: Sandbox) -> None:
    rows = human_eval(shared_data)
    assert len(rows) == 164
    assert all(verdicts(rows, [row["canonical_solution"] for row in rows], sandbox))
    some = rows[::4]
    whole = [f"Of course!\n```python\n{row['prompt']}{row['canonical_solution']}\n```\nDone." for row in some]
    assert all(verdicts(some, whole, sandbox))


def test_broken_solutions_fail(shared_data: Path, sandbox: Sandbox) -> None:
    rows = human_eval(shared_data)
    assert not any(verdicts(rows, ["    return None\n"] * len(rows), sandbox))
    some = rows[::8]
    leaving = [f"    import os\n    os._exit(0)\n{row['canonical_solution']}" for row in some]
    assert not any(verdicts(some, leaving, sandbox))
