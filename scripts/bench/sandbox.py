"""Programs per second: a subprocess each, a fresh jail each, and the sandbox's warm workers.

    python scripts/bench/sandbox.py                     # one worker a core
    python scripts/bench/sandbox.py --workers 1 --programs 200

The subprocess protects from nothing; the fresh jail is bubblewrap around a new interpreter, one per program. All three
run as many programs at once as there are workers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dsm.config.sandbox import SandboxConfig
from dsm.sandbox import Program, Sandbox
from dsm.sandbox.jail import Jail

PROGRAMS = {
    "print": "print(6 * 7)",
    "word problem": """
def solution():
    eggs_per_day, eaten, baked, price = 16, 3, 4, 2
    sold = eggs_per_day - eaten - baked
    return sold * price
print(solution())
""",
    "NumPy": "import numpy as np\na = np.array([[2.0, 1.0], [1.0, 3.0]])\nprint(np.linalg.solve(a, [1.0, 2.0]))",
    "SymPy number": "from sympy import Rational, sqrt\nprint(sqrt(50) + Rational(1, 3))",
    "SymPy solve": "from sympy import symbols, solve\nx = symbols('x')\nprint(solve(x**2 - 5*x + 6, x))",
    "SymPy simplify": "from sympy import *\nx = symbols('x')\nprint(simplify((x**3 - 1) / (x - 1)))",
}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--programs", type=int, default=300, help="of each kind, in the sandbox")
    parser.add_argument("--cold", type=int, default=12, help="of each kind, by the slow ways")
    return parser.parse_args()


def by_subprocess(code: str) -> None:
    """A new interpreter."""
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)


def by_fresh_jail(code: str) -> None:
    """A new jail, nothing imported in advance."""
    jail = Jail(SandboxConfig(preload=[]))
    try:
        execution, _ = jail.run(Program(code))
        assert execution.status == "ok", execution
    finally:
        jail.close()


def rate(run: Callable[[str], None], code: str, count: int, workers: int) -> float:
    """Programs per second."""
    with ThreadPoolExecutor(workers) as threads:
        start = time.perf_counter()
        list(threads.map(run, [code] * count))
        return count / (time.perf_counter() - start)


def main() -> None:
    """The table."""
    arguments = parse_arguments()
    workers: int = arguments.workers
    start = time.perf_counter()
    with Sandbox(SandboxConfig(workers=workers)) as sandbox:
        sandbox.run([Program("pass")] * workers)
        print(f"{workers} workers, warm after {time.perf_counter() - start:.1f} s; programs per second")
        print(f"{'':16}{'subprocess':>12}{'fresh jail':>12}{'sandbox':>12}")
        for name, code in PROGRAMS.items():
            cold = [rate(way, code, arguments.cold, workers) for way in (by_subprocess, by_fresh_jail)]
            start = time.perf_counter()
            executions = sandbox.run([Program(code)] * arguments.programs)
            warm = arguments.programs / (time.perf_counter() - start)
            assert all(execution.status == "ok" for execution in executions), executions[0]
            print(f"{name:16}" + "".join(f"{value:12.1f}" for value in (*cold, warm)), flush=True)


if __name__ == "__main__":
    main()
