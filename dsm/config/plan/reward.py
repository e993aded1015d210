"""The plans of reward models: what they are trained on and at what cost; what labelling asks of the completer."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from dsm.config.plan.disk import source_row, tokenizer_ids, tokenizer_row
from dsm.config.plan.model import model_rows
from dsm.config.plan.table import Rows
from dsm.config.plan.training import Budget, training_sections
from dsm.config.reward_model import LabelConfig, RewardTrainingConfig

_WHAT = {
    ("outcome", "pairwise"): "pairs of a right and a wrong solution (Bradley-Terry)",
    ("outcome", "pointwise"): "solutions, one value each (binary cross-entropy)",
    ("process", "pointwise"): "solutions, a value at the end of each step (binary cross-entropy)",
}


def reward_sections(config: RewardTrainingConfig) -> dict[str, Rows]:
    """Data, then what every training stage has."""
    data, ids = config.data, tokenizer_ids(config.tokenizer_path)
    shape, model = model_rows(config, ids)
    rows: Rows = [("examples", _WHAT[config.supervision, config.objective])]
    for name, source in data.sources.items():
        passes = "" if source.weight == 1 else f"{source.weight:g} passes an epoch"
        rows.append(source_row(f"source {name}", source.path, passes))
    if data.replay.path is not None:
        rows.append(source_row("replay", data.replay.path, f"{data.replay.share:.0%} of the examples at most"))
    share = f"{data.validation.fraction:.1%} of the solutions, at most {data.validation.max_examples:,}"
    rows.append(("held out", share if data.validation.fraction else "nothing"))
    rows.append(tokenizer_row(config.tokenizer_path, ids))
    model.append(("head", "one row in the place of the vocabulary's: what is said of logits is too much"))
    if shape is not None:
        shape = replace(shape, tied=True)
    return {"Data": rows} | training_sections(config, _budget(config), shape, model)


def _budget(config: RewardTrainingConfig) -> Budget:
    asked, steps = config.trainer, config.trainer.steps
    pairs = 2 if config.objective == "pairwise" else 1
    return Budget(
        context=config.data.context,
        per_step=Fraction(asked.examples_per_step * pairs),
        steps=steps,
        sequences=None if steps is None else steps * asked.examples_per_step * pairs,
        exact=False,
        unknown=f"follow from the data: {asked.epochs:g} epochs" if asked.epochs is not None else "",
    )


def label_sections(config: LabelConfig) -> dict[str, Rows]:
    """The completer, the solutions, the completions."""
    asked = config.completions
    return {
        "Completer": model_rows(config, tokenizer_ids(config.tokenizer_path))[1],
        "Solutions": [
            source_row("rollouts", config.data.path),
            ("labelled", "all" if config.data.limit is None else f"the first {config.data.limit:,}"),
        ],
        "Completions": [
            ("of each step", f"{asked.n:,}, temperature {asked.temperature:g}, top-p {asked.top_p:g}"),
            ("new tokens", f"{asked.max_new_tokens:,} at most"),
            ("answers", f"found by {asked.extractor}, compared by {config.grader.name}"),
        ],
    }
