"""How a run may end that is no bug: the user can fix it, its numbers ran away, or it was told to stop."""

from __future__ import annotations

from signal import Signals


class UserError(Exception):
    """A mistake of the user's making: its text is one line that names the key, the value and what is allowed.

    The command line prints the text and exits with status 2. Any other exception is a bug of ours and keeps its
    traceback.
    """


class NonFiniteError(UserError):
    """Too many steps in a row whose gradient was not finite."""


class StoppedError(Exception):
    """A signal ended the run after a checkpoint was saved; the exit status is 128 plus its number."""

    def __init__(self, signal: Signals, message: str) -> None:
        super().__init__(message)
        self.signal = signal
