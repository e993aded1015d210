"""Reward functions that misbehave in every way we could think of; run in the processes of the rewards only.

Each does so for completions that hold BAD, and gives 1 to the others, so that the tests see whom a fault hits.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

Rewards = list[Any]


def _each(bad: Any) -> Callable[..., Rewards]:
    """1 for good completions, for bad ones this (called, if it can be)."""

    def reward(completions: list[str], **_: Any) -> Rewards:
        return [(bad() if callable(bad) else bad) if "BAD" in text else 1.0 for text in completions]

    return reward


def _whole(bad: Any) -> Callable[..., Any]:
    """All well, or where one is bad this for all of them."""

    def reward(completions: list[str], **_: Any) -> Any:
        if any("BAD" in text for text in completions):
            return bad(completions) if callable(bad) else bad
        return [1.0] * len(completions)

    return reward


def _numpy() -> Any:
    import numpy  # the others start sooner without it

    return numpy


def _loop() -> None:
    while True:
        pass


def _raise(error: BaseException) -> Callable[[], None]:
    def throw() -> None:
        raise error

    return throw


def _recurse() -> None:
    _recurse()


def _fork_and_hang() -> None:
    subprocess.Popen(["sleep", "1000"])
    time.sleep(1000)


def _close_all() -> float:
    os.closerange(0, 1 << 16)  # the parent may have had many open: ours has a number beyond its
    return 1.0


def _deadlock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


async def _never() -> None:
    await asyncio.sleep(1000)


def _generator(completions: list[str]) -> Any:
    for text in completions:
        if "BAD" in text:
            raise ValueError("half-way through")
        yield 1.0


# What one bad sample costs itself alone.
raises = _each(_raise(ValueError("no answer in 'text'")))
recurses = _each(_recurse)
exits = _each(lambda: sys.exit(3))
interrupts = _each(_raise(KeyboardInterrupt()))
generator_exit = _each(_raise(GeneratorExit()))
strange_error = _each(_raise(type("Odd", (BaseException,), {"__str__": lambda self: "odd \n error"})()))
asserts = _each(_raise(AssertionError()))
hangs_in_python = _each(_loop)
hangs_in_sleep = _each(lambda: time.sleep(1000))
hangs_in_c = _each(lambda: re.match(r"(a+)+$", "a" * 60 + "b"))
hangs_in_arithmetic = _each(lambda: 9 ** (9**9))
hangs_in_lock = _each(_deadlock)
hangs_with_child = _each(_fork_and_hang)
hangs_ignoring_signals = _each(lambda: (signal.signal(signal.SIGTERM, signal.SIG_IGN), _loop()))
ends_process = _each(lambda: os._exit(7))
segfaults = _each(lambda: ctypes.string_at(0))
aborts = _each(os.abort)
kills_itself = _each(lambda: os.kill(os.getpid(), signal.SIGKILL))
stops_itself = _each(lambda: os.kill(os.getpid(), signal.SIGSTOP))
closes_files = _each(_close_all)
allocates = _each(lambda: len(bytearray(1 << 40)))
allocates_bit_by_bit = _each(lambda: len([bytearray(1 << 20) for _ in itertools.count()]))
nan = _each(float("nan"))
inf = _each(float("inf"))
minus_inf = _each(float("-inf"))
numpy_nan = _each(lambda: _numpy().float32("nan"))
text = _each("1.0")
empty_text = _each("")
nested = _each([1.0])
mapping = _each({"score": 1.0})
complex_number = _each(1 + 1j)
too_large = _each(10**400)
a_function = _each(lambda: print)
decimal = _each(Decimal("1.5"))
numpy_row = _each(lambda: _numpy().array([1.0, 2.0]))


# What leaves nothing to be read for any sample of the call.
too_few = _whole(lambda completions: [1.0] * (len(completions) - 1))
too_many = _whole(lambda completions: [1.0] * (len(completions) + 1))
nothing = _whole(lambda completions: [])
none = _whole(None)
one_number = _whole(1.0)
one_text = _whole("1.0")
a_dict = _whole(lambda completions: {i: 1.0 for i, _ in enumerate(completions)})
a_set = _whole({1.0, 0.5})
endless = _whole(lambda completions: itertools.repeat(1.0))
a_type = _whole(lambda completions: float)
coroutines = _whole(lambda completions: [_never() for _ in completions])


# Whole calls that end in an exception: asked alone, the good ones are well.
broken_generator = _whole(_generator)


async def hangs_async(completions: list[str], **_: Any) -> Rewards:
    """A coroutine that waits for ever."""
    if any("BAD" in text for text in completions):
        await asyncio.gather(*(_never() for _ in completions))
    return [1.0] * len(completions)


def wants_column(completions: list[str], solution: list[str]) -> Rewards:
    """There is no such column."""
    return [1.0] * len(completions)


def misses_key(completions: list[str], **kwargs: Any) -> Rewards:
    """There is no such column, asked for in the old way."""
    return [float(a == b) for a, b in zip(completions, kwargs["solution"], strict=True)]


# Odd, and no fault.


def prints(completions: list[str], **_: Any) -> Rewards:
    """Writes where a careless protocol would read."""
    print('{"values": [5]}\n' * 100, flush=True)
    os.write(1, b"\x00\x00\x00\x00garbage")
    return [1.0] * len(completions)


def leaves(completions: list[str], **_: Any) -> Rewards:
    """Goes elsewhere, and is where it was the next time."""
    here = os.getcwd()
    os.chdir("/")
    os.environ["HOME"] = "/nowhere"
    return [float(here != "/")] * len(completions)


def numpy_scalars(completions: list[str], **_: Any) -> Rewards:
    """Numbers of other makes."""
    np = _numpy()
    made = [np.float32(1), np.int64(1), True, np.bool_(True), np.array(1.0), 1]
    return [made[i % len(made)] for i in range(len(completions))]


def numpy_array(completions: list[str], **_: Any) -> Any:
    """An array in place of a list."""
    return _numpy().ones(len(completions), dtype="float16")


def generates(completions: list[str], **_: Any) -> Any:
    """A generator that comes to an end."""
    return (1.0 for _ in completions)


def threads(completions: list[str], **_: Any) -> Rewards:
    """Leaves a thread behind."""
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    return [1.0] * len(completions)


def changes_signals(completions: list[str], **_: Any) -> Rewards:
    """As math_verify does."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(1)
    return [1.0] * len(completions)


not_a_function = 5
