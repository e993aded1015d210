"""Programs found in completions, their answers as bare text, and what is counted as a failure."""

from __future__ import annotations

import ast
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from dsm.config.sandbox import SandboxConfig
from dsm.config.tools import ToolConfig
from dsm.sandbox import Sandbox
from dsm.tools.blocks import Block, find_blocks
from dsm.tools.inside.values import write
from dsm.tools.program import ProgramAnswer, extract_program, run_programs

CONFIG = ToolConfig()


def answers(sandbox: Sandbox, *programs: str, result: str | None = None) -> list[ProgramAnswer]:
    return run_programs([f"```python\n{program}\n```" for program in programs], sandbox, CONFIG, result)


# ---------------------------------------------------------------- finding the program


def test_blocks_by_the_rules_of_the_training_data() -> None:
    text = "a\n```python\nx = 1\n```\nb\n ``` \n```json\n{}\n```\nSee: ```py\ny\n```"
    assert find_blocks(text) == [
        Block("python", "x = 1\n", True),
        Block("", "```json\n{}\n", True),
        Block("py", "y\n", True),
    ]
    assert find_blocks("```Python\nx") == [Block("python", "x", False)]
    assert find_blocks("say ```x``` or ```\n") == []


WITH_IMPORTS_BEHIND = "answer = gcd(4, 6)\n```\nImports:\n```\nfrom math import gcd\n```"
LOOP = "x = 2\nfor i in range(3):\n    x += i\nprint(x)"
FUNCTION = 'def solution():\n    """A\nB"""\n    return 1'
ALL_SORTS = "import re\n\n@cache\ndef f(a):\n    return a\n\na, b = 1, 2\nd['k'] = 3\nc.x += 1\nf(\n    3\n)\nprint(a)"


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("We write:\n```python\nanswer = 1\n```\nSo.", "answer = 1\n"),
        ("```python\nanswer = 1\n```\n```python\nanswer = 2\n```", "answer = 2\n"),
        ("```python\nanswer = 1", "answer = 1"),
        ("```python\n\n```\n```python\nanswer = 1\n```\n```output\n1\n```\n", "answer = 1\n"),
        (f"```\n{WITH_IMPORTS_BEHIND}", "from math import gcd\n\nanswer = gcd(4, 6)\n"),
        (WITH_IMPORTS_BEHIND, "from math import gcd\n\nanswer = gcd(4, 6)\n"),  # the prompt opened the fence
        ("```\nanswer = 1\n```\nImports:\n```\n\n```\nI hope my solution is correct.", "answer = 1\n"),
        (f"{FUNCTION}\n\n\n\n\n\nQ: More?", FUNCTION),
        (f"Let us compute.\n{LOOP}\nDone.", LOOP),
        (f"{ALL_SORTS}\n", ALL_SORTS),
        ("So, the answer = 5 is right. If this holds, f(x) is even.", None),
        ("The answer is 5.", None),
        ("", None),
        ("```json\n{}\n```", None),
    ],
)
def test_the_program_in_a_completion(completion: str, program: str | None) -> None:
    assert extract_program(completion) == program


def test_finding_takes_linear_time_in_hostile_text() -> None:
    for text in (
        "a, " * 50_000,
        "a." * 50_000,
        "import x\n" * 20_000 + "```",
        "\n" * 100_000 + "x",
        "a[" * 50_000 + "=",
    ):
        extract_program(text)
        extract_program(f"```\n{text}\n```")


# ---------------------------------------------------------------- values as text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (18, "18"),
        (17.999999999, "18"),
        (-3.0, "-3"),
        (1.2246467991473532e-16, "0"),  # sin(pi)
        (0.1 + 0.2, "0.3"),
        (1 / 3, "0.333333333333"),
        (6.62607015e-34, "6.62607015e-34"),
        (1e300, "1e+300"),
        (123456789012.5, "123456789012"),
        (float("nan"), None),
        (float("-inf"), "-\\infty"),
        (True, "True"),
        (3 + 4j, "3 + 4i"),
        (-1j, "-i"),
        (complex(2, 1e-16), "2"),
        (Fraction(3, 4), "3/4"),
        (Decimal("2.50"), "2.5"),
        ([5], "5"),
        ([-1, 3.0], "-1, 3"),
        ([], None),
        ([None, 2], "2"),
        ((1, 2.5), "(1, 2.5)"),
        ({2, 10, 1}, r"\{1, 2, 10\}"),
        ({"x": 1, "y": 2}, "x = 1, y = 2"),
        (range(3), "0, 1, 2"),
        (iter([1, 2]), "1, 2"),
        ("  7 apples \n", "7 apples"),
        ("", None),
    ],
)
def test_plain_values(value: Any, text: str | None) -> None:
    assert write(value) == text


def test_values_of_numpy_and_sympy() -> None:
    numpy, sympy = pytest.importorskip("numpy"), pytest.importorskip("sympy")
    x = sympy.Symbol("x")
    expected = {
        "2.5": numpy.float64(2.5),
        "0, 0.5": numpy.arange(2) / 2,
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}": numpy.array([[1, 2], [3, 4]]),
        "3/4": sympy.Rational(3, 4),
        "21": sympy.Float("21.0000000000000"),
        r"\frac{\sqrt{2}}{2}": sympy.sqrt(2) / 2,
        r"- \sqrt{2}, \sqrt{2}": sympy.solve(x**2 - 2),
        r"2 \log{\left(x \right)}": sympy.log(x) * 2.0000000001,
        "1 + 2i": sympy.Float(1) + 2 * sympy.I,
        r"\left(0, 1\right]": sympy.Interval.Lopen(0, 1),
        r"\{1, 2\}": sympy.FiniteSet(2, 1),
        r"\begin{pmatrix} 1/2 & 2 \end{pmatrix}": sympy.Matrix([[sympy.Rational(1, 2), 2]]),
        "(1, 2)": sympy.Tuple(1, 2),
        r"x = \frac{1}{3}": sympy.Eq(x, sympy.Rational(1, 3)),
        r"\infty": sympy.oo,
        r"\emptyset": sympy.S.EmptySet,
        "x = 3": {x: sympy.Integer(3)},
    }
    assert {write(value): value for value in expected.values()} == expected
    assert write(sympy.nan) is None


# ---------------------------------------------------------------- running


def test_where_the_answer_is_read(sandbox: Sandbox) -> None:
    found = answers(
        sandbox,
        "answer = 3\ndef solution():\n    return 17.999999999",
        "answer = [-1, 3]\nprint(5)",
        "print(1)\nprint('the answer', 4)\n",
        "print(6.0)",
        "def solution(n):\n    return n\nprint(solution(2))",  # wants an argument
        "def solution():\n    print(8)\nsolution()",  # returns None
        "def answer():\n    return 1\nprint(9)",  # no value
        "import sys\nanswer = 10\nsys.exit()",
        "list = str = print = len = 1\nanswer = {'list': list}",
        "from sympy import *\nanswer = solve(Symbol('x')**2 - 2)",
        "from __future__ import annotations\nanswer = 11",
    )
    assert [(one.rule, one.answer) for one in found] == [
        ("solution()", "18"),
        ("answer", "-1, 3"),
        ("printed", "the answer 4"),
        ("printed", "6"),
        ("printed", "2"),
        ("printed", "8"),
        ("printed", "9"),
        ("answer", "10"),
        ("answer", "list = 1"),
        ("answer", r"- \sqrt{2}, \sqrt{2}"),
        ("answer", "11"),
    ]
    assert all(one.failure is None for one in found)


def test_a_result_that_is_asked_for_comes_first(sandbox: Sandbox) -> None:
    program = "answer = 3\nroot = 4\ndef main():\n    return 5\ndef solution():\n    return 6"
    for result, expected in (("answer", "3"), ("root", "4"), ("main()", "5"), ("nothing", "6"), (None, "6")):
        (found,) = answers(sandbox, program, result=result)
        assert found.answer == expected


def test_failures_are_told_apart() -> None:
    completions = [
        "No program here.",
        "```python\nprint(3)\n1/0\n```",
        "```python\nwhile True: pass\n```",
        "```python\nx = 1\n```",
        "```python\nprint('nan')\n```",
        "```python\nanswer = (\n```",
        "```python\nimport os\nos._exit(0)\n```",
        "```python\nanswer = [0] * 10**10\n```",
        "```python\nanswer = '''open\n```",
    ]
    with Sandbox(SandboxConfig(workers=2)) as sandbox:
        found = run_programs(completions, sandbox, ToolConfig(timeout_s=0.5))
    assert [one.failure for one in found] == [
        "no program",
        "error",
        "timeout",
        "no answer",
        "no answer",
        "error",
        "crashed",
        "memory",
        "error",
    ]
    assert all(one.answer is None for one in found)
    assert found[0].execution is None
    assert found[1].execution is not None
    assert "ZeroDivisionError" in found[1].execution.stderr


def test_what_runs_in_the_sandbox_needs_the_standard_library_only() -> None:
    from dsm.tools.inside import source

    for module in ("values", "session", "examiner"):
        ast.parse(source(module))
        assert "import dsm" not in source(module)
        assert "from dsm" not in source(module)
