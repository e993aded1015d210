"""Graders that misbehave on command: what a pool must survive. Run in its workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from dsm.answers.verdict import Verdict, correct, wrong
from dsm.config.answers import GraderConfig


def obedient(gold: str, answer: str, config: GraderConfig) -> Verdict:
    """Does what the answer says; otherwise equal strings are correct. `reason` is the worker's process id."""
    command, _, argument = answer.partition(":")
    match command:
        case "loop":
            while True:
                pass
        case "power":  # one call of C code, deaf to signals
            return wrong(str(9 ** (9**9)))
        case "sleep":
            time.sleep(float(argument))
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die once":
            if not Path(argument).exists():
                Path(argument).touch()
                os._exit(1)
        case "raise":
            raise ValueError(argument)
        case "recurse":
            return obedient(gold, answer, config)
        case "memory":
            return wrong(str(len(bytearray(int(argument) << 20))))
        case "keep":
            _KEPT.append(bytearray(os.urandom(1 << 20) * int(argument)))
    return (correct if gold == answer or command != answer else wrong)(str(os.getpid()))


_KEPT: list[bytearray] = []
