"""Checkpoints that make a resumed run equal to one that was never stopped, to the bit: one format for every layout.

One holds the weights, the optimiser's state, where the run stands, every rank's random state, the callbacks' state and
what the data was. All processes write their part at once while training goes on; the folder bears a checkpoint's name
when it is complete, and each file in it a checksum. Loaded into the same layout nothing has changed by a bit; into
another, every tensor holds the same numbers.

Lightning's own saving is not used: it knows no random state, writes one file from one process or a folder that may be
half written, and keeps counters of its loops that would have to be fast-forwarded. Here the stream of steps starts at
`progress.step`, which also lets a budget be extended.
"""

from dsm.training.checkpoint.callback import ExactCheckpoint
from dsm.training.checkpoint.folder import read_tensors
from dsm.training.checkpoint.state import random_state, restore_random_state

__all__ = ["ExactCheckpoint", "random_state", "read_tensors", "restore_random_state"]
