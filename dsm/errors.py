"""The one exception that means "the user can fix this"."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user's making: its text is one line that names the key, the value and what is allowed.

    The command line prints the text and exits with status 2. Any other exception is a bug of ours and keeps its
    traceback.
    """
