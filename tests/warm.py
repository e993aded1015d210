"""Imported last by the server that processes are forked from: what each of them would make first, made once.

A composition and transformers' table of old names of weights (887 regular expressions) are half of what a small run
takes.
"""

from __future__ import annotations

from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from dsm.config.compose import compose_raw

for _groups in (
    ["stage=sft", "model=tiny"],
    ["stage=rl", "model=tiny", "reward=custom"],
    ["stage=pretrain", "model=tiny"],
):
    compose_raw(_groups)
get_checkpoint_conversion_mapping("llama")
