"""The plan of fine-tuning: sources, steps of packed sequences, cost."""

from __future__ import annotations

import math
from fractions import Fraction

from dsm.config.plan.disk import source_row, tokenizer_ids, tokenizer_row
from dsm.config.plan.model import model_rows
from dsm.config.plan.table import Rows
from dsm.config.plan.training import Budget, training_sections
from dsm.config.run import SFTConfig


def sft_sections(config: SFTConfig) -> dict[str, Rows]:
    """Data, then what every training stage has."""
    data, ids = config.data, tokenizer_ids(config.tokenizer_path)
    shape, model = model_rows(config, ids)
    rows: Rows = []
    for name, source in data.sources.items():
        passes = "" if source.weight == 1 else f"{source.weight:g} passes an epoch"
        rows.append(source_row(f"source {name}", source.path, passes))
    rows += [source_row(f"held out, {name}", source.path) for name, source in data.validation.sources.items()]
    if not data.validation.sources:
        share = f"{data.validation.fraction:.1%} of the questions, at most {data.validation.max_examples:,} examples"
        rows.append(("held out", share if data.validation.fraction else "nothing"))
    rows.append(tokenizer_row(config.tokenizer_path, ids))
    return {"Data": rows} | training_sections(config, _budget(config), shape, model)


def _budget(config: SFTConfig) -> Budget:
    asked, context = config.trainer, config.data.context
    positions = asked.sequences_per_step * context
    steps = asked.steps or (math.ceil(asked.tokens / positions) if asked.tokens else None)
    return Budget(
        context=context,
        per_step=Fraction(asked.sequences_per_step),
        steps=steps,
        sequences=None if steps is None else steps * asked.sequences_per_step,
        exact=False,
        unknown=f"follow from the data: {asked.epochs:g} epochs" if asked.epochs is not None else "",
    )
