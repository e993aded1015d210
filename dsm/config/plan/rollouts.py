"""The plan of stage=rollouts: what is asked of whom, and how much is written at most."""

from __future__ import annotations

from dsm.config.plan.disk import source_row, tokenizer_ids, tokenizer_row
from dsm.config.plan.model import model_rows
from dsm.config.plan.table import Rows, tokens
from dsm.config.rollout import RolloutsConfig


def rollouts_sections(config: RolloutsConfig) -> dict[str, Rows]:
    """Prompts, answers, rewards, model."""
    ids, rollout = tokenizer_ids(config.tokenizer_path), config.rollout
    asked: Rows = [source_row(f"source {name}", source.path) for name, source in config.prompts.sources.items()]
    if (difficulty := config.prompts.difficulty) is not None:
        text = f"pass rate {difficulty.min:g} to {difficulty.max:g} by {difficulty.path}"
        asked.append(("difficulty", text))
    number = "each once" if config.limit is None else f"{config.limit:,}, drawn by seed {config.seed}"
    asked += [
        ("prompts", f"{number}; {config.prompts_per_part:,} between two writes"),
        tokenizer_row(config.tokenizer_path, ids),
    ]
    most = (
        ""
        if config.limit is None
        else f" = {tokens(config.limit * rollout.group_size * rollout.max_new_tokens)} tokens"
    )
    parts = [f"{name} ({part.name}, weight {part.weight:g})" for name, part in config.reward.parts.items()]
    return {
        "Prompts": asked,
        "Answers": [
            ("of each", f"{rollout.group_size:,} of at most {rollout.max_new_tokens:,} tokens{most}"),
            ("drawn", f"temperature {rollout.temperature:g}, top-p {rollout.top_p:g}, by engine {config.engine.name}"),
            ("tools", "programs run while it is written" if rollout.tools == "tir" else "none"),
            ("reward", ", ".join(parts)),
        ],
        "Model": model_rows(config, ids)[1],
    }
