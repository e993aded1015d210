"""The stages there are, and which of their settings make the result."""

from __future__ import annotations

from typing import Any

from dsm.config.annotate import AnnotateConfig
from dsm.config.answers import POOL_SETTINGS
from dsm.config.crawl import CrawlStageConfig
from dsm.config.decontaminate import DecontaminateConfig
from dsm.config.evaluation import EvalConfig
from dsm.config.in_training import MeasuredConfig
from dsm.config.mine import MineConfig
from dsm.config.pipeline import PipelineConfig
from dsm.config.pretrain import PretrainConfig
from dsm.config.problems import ProblemsStageConfig
from dsm.config.report import ReportStageConfig
from dsm.config.reward import CALL_SETTINGS
from dsm.config.reward_model import LabelConfig, RewardTrainingConfig
from dsm.config.rl import RLConfig
from dsm.config.rollout import RolloutsConfig
from dsm.config.run import RunConfig, SFTConfig, TokenizerConfig
from dsm.config.store import TokenizeConfig

STAGES: dict[str, tuple[type[RunConfig], str]] = {
    "crawl": (CrawlStageConfig, "dsm.corpus.crawl.stage:make_crawl"),
    "mine": (MineConfig, "dsm.corpus.mine:mine"),
    "annotate": (AnnotateConfig, "dsm.corpus.annotate.stage:annotate"),
    "decontaminate": (DecontaminateConfig, "dsm.corpus.decontaminate:decontaminate"),
    "problems": (ProblemsStageConfig, "dsm.data.problems_stage:make_problems"),
    "tokenizer": (TokenizerConfig, "dsm.data.tokenizer_stage:train_tokenizer"),
    "tokenize": (TokenizeConfig, "dsm.data.store.stage:tokenize"),
    "pretrain": (PretrainConfig, "dsm.training.stages:pretrain"),
    "sft": (SFTConfig, "dsm.training.stages:fine_tune"),
    "rollouts": (RolloutsConfig, "dsm.rollout.stage:make_rollouts"),
    "rl": (RLConfig, "dsm.training.rl.stage:improve"),
    "label": (LabelConfig, "dsm.training.reward.label:label"),
    "reward": (RewardTrainingConfig, "dsm.training.reward.stage:train_reward_model"),
    "eval": (EvalConfig, "dsm.evaluation.stage:evaluate"),
    "report": (ReportStageConfig, "dsm.report.stage:make_report"),
    "pipeline": (PipelineConfig, "dsm.pipeline.stage:run_pipeline"),
}
"""Stage -> its schema and the function that runs it ('module:function', imported only when it runs)."""


def result_settings(config: RunConfig) -> dict[str, Any]:
    """What makes one run's result differ from another's: everything but how it is watched and where it lies.

    Mining asks each of its steps whether it was done with these settings, so its folder serves all of a crawl's.
    """
    if isinstance(config, MineConfig):
        return config.model_dump(include={"stage": True, "name": True, "crawl": {"path"}})
    groups = {"mode", "resume", "sweep_metric", "sweep_direction", "paths", "parallel", "checkpoint"}
    watching: dict[str, Any] = dict.fromkeys(groups | {"callbacks", "logger", "plan", "threads"}, True) | {
        "trainer": {"log_every", "validate_every", "max_skipped_steps"},
        "engine": {"max_rows", "cache_gb", "prefill_tokens", "memory_share", "enforce_eager"},
        "rollout": {"timeout_s", "gap_limit"},
        "reward": {"parts": {"__all__": CALL_SETTINGS}, "max_fault_share": True},
        "grader": POOL_SETTINGS,
        "sandbox": {"workers", "uid"},
        "store": {"workers"},
        "crawl": {"workers"},
        "executor": True,
        "mix": {"validation"},
        "evaluation": True,
    }
    if isinstance(config, RLConfig):
        watching |= {"reference": True, "alarms": True, "table": True}
    if isinstance(config, MeasuredConfig):
        watching["benchmarks"] = True
    if isinstance(config, PipelineConfig):
        watching |= {"at_once": True, "ending": True}
    return config.model_dump(exclude=watching)
