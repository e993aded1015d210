"""Imported first, it has what is imported after it looked through by no garbage collector."""

from __future__ import annotations

import gc

gc.disable()  # imports make a million objects that stay; whoever needs a collection later turns it on
