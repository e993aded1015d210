"""How a run may end that is no bug: the user can fix it, its numbers ran away, a rank was lost, it was told to stop."""

from __future__ import annotations

from signal import Signals

LOST_RANK = 75
"""Exit status of a job that lost a rank, dead or hanging: to be tried again (EX_TEMPFAIL of sysexits.h)."""


class UserError(Exception):
    """A mistake of the user's making: its text is one line that names the key, the value and what is allowed.

    The command line prints the text and exits with status 2. Any other exception is a bug of ours and keeps its
    traceback.
    """


class NonFiniteError(UserError):
    """Too many steps in a row whose gradient was not finite."""


class SpikeError(UserError):
    """The loss or the gradient norm left the range of the steps before it, and that was to end the run."""


class StoppedError(Exception):
    """A signal ended the run after a checkpoint was saved; the exit status is 128 plus its number.

    Attributes:
        requeued: the job is back in its queue, and this is not the end of it.
    """

    def __init__(self, signal: Signals, message: str) -> None:
        super().__init__(message)
        self.signal = signal
        self.requeued = False

    def __reduce__(self) -> tuple[type[StoppedError], tuple[Signals, str]]:
        """As a job of a sweep sends it home."""
        return StoppedError, (self.signal, str(self))


class LostRankError(Exception):
    """Another rank did not come, or is lost in a way that nobody could tell; the exit status is `LOST_RANK`."""
