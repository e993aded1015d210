"""The plan of an evaluation: what is asked, how it is answered, what is known of others' results."""

from __future__ import annotations

from dsm.config.evaluation import EvalConfig
from dsm.config.plan.disk import source_row, tokenizer_ids
from dsm.config.plan.model import model_rows
from dsm.config.plan.table import Rows

_KINDS = {"generate": "an answer is written", "choices": "choices are scored", "code": "tests are run"}


def evaluation_sections(config: EvalConfig) -> dict[str, Rows]:
    """Model, answers, and a section a benchmark."""
    asked, sampling = config.prompting, config.sampling
    greedy = not sampling.temperature
    how = "greedy" if greedy else f"sampled at temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
    auto = "zero_shot if the tokenizer has a chat template, else few_shot"
    sections: dict[str, Rows] = {
        "Model": model_rows(config, tokenizer_ids(config.tokenizer_path))[1],
        "Answers": [
            ("prompts", asked if asked != "auto" else auto),
            ("answers", f"{sampling.n:,} an item, {how}"),
            ("grader", config.grader.name),
            *([("reward model", config.reward_model.path)] if config.reward_model is not None else []),
        ],
    }
    for name, benchmark in config.benchmarks.items():
        data, root = benchmark.data, config.data_root
        path = data.path or (f"{root}/{data.file}" if root and data.file else data.hub)
        limit = sampling.max_new_tokens or benchmark.max_new_tokens
        sections[benchmark.title or name] = [
            source_row("data", path or "NOT GIVEN"),
            ("kind", _KINDS[benchmark.kind]),
            ("few-shot", f"{benchmark.few_shot.shots} exemplars, tool {benchmark.few_shot.tool}"),
            ("zero-shot", f"tool {benchmark.zero_shot.tool}"),
            ("new tokens", f"{limit:,} at most an answer"),
            *((("reference"), f"{who}: {100 * value:.1f}") for who, value in benchmark.reference.items()),
        ]
    return sections
