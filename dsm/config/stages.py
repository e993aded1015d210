"""The stages there are, and which of their settings make the result."""

from __future__ import annotations

from typing import Any

from dsm.config.answers import POOL_SETTINGS
from dsm.config.evaluation import EvalConfig
from dsm.config.in_training import MeasuredConfig
from dsm.config.pretrain import PretrainConfig
from dsm.config.report import ReportStageConfig
from dsm.config.run import RunConfig, SFTConfig, TokenizerConfig
from dsm.config.store import TokenizeConfig

STAGES: dict[str, tuple[type[RunConfig], str]] = {
    "tokenizer": (TokenizerConfig, "dsm.training.stages:train_tokenizer"),
    "tokenize": (TokenizeConfig, "dsm.data.store.stage:tokenize"),
    "pretrain": (PretrainConfig, "dsm.training.stages:pretrain"),
    "sft": (SFTConfig, "dsm.training.stages:fine_tune"),
    "eval": (EvalConfig, "dsm.evaluation.stage:evaluate"),
    "report": (ReportStageConfig, "dsm.evaluation.report:make_report"),
}
"""Stage -> its schema and the function that runs it ('module:function', imported only when it runs)."""


def result_settings(config: RunConfig) -> dict[str, Any]:
    """What makes one run's result differ from another's: everything but how it is watched and where it lies."""
    groups = {"mode", "resume", "sweep_metric", "paths", "parallel", "checkpoint", "callbacks", "logger", "plan"}
    watching: dict[str, Any] = dict.fromkeys(groups, True) | {
        "trainer": {"log_every", "validate_every", "max_skipped_steps"},
        "engine": {"max_rows", "cache_gb", "prefill_tokens"},
        "grader": POOL_SETTINGS,
        "sandbox": {"workers", "uid"},
        "store": {"workers"},
        "mix": {"validation"},
        "evaluation": True,
    }
    if isinstance(config, MeasuredConfig):
        watching["benchmarks"] = True
    return config.model_dump(exclude=watching)
