"""The server that the tests fork their processes from: it imports what they need once, then one more costs little.

There is one server, and what it imports is settled when it starts; so there is one list, whoever starts it.
"""

from __future__ import annotations

import multiprocessing
import os

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as `dsm` has it, before torch is imported
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        "tests.uncollected",
        "transformers.models.llama.modeling_llama",
        "dsm.training.stages",
        "dsm.training.rl.stage",
        "dsm.training.reward.label",
        "dsm.evaluation.stage",
        "tests.training.harness",
        "tests.runtime.crew",
        "tests.ranks",
        "tests.warm",
    ]
)
