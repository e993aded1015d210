"""`mode=plan`: what a run would do and cost, by its settings and what lies on the disk; no torch, no weights, no data.

Numbers that only the data can tell (steps when the budget is in epochs, how full sequences get) are named as such.
"""

from __future__ import annotations

from dsm.config.evaluation import EvalConfig
from dsm.config.plan.disk import folder_rows
from dsm.config.plan.evaluation import evaluation_sections
from dsm.config.plan.pretrain import pretrain_sections
from dsm.config.plan.sft import sft_sections
from dsm.config.plan.table import Rows, render
from dsm.config.plan.texts import tokenize_sections, tokenizer_sections
from dsm.config.pretrain import PretrainConfig
from dsm.config.report import ReportStageConfig
from dsm.config.run import RunConfig, SFTConfig, TokenizerConfig
from dsm.config.store import TokenizeConfig

__all__ = ["plan_text"]


def plan_text(config: RunConfig) -> str:
    """The plan of a run as aligned lines.

    Raises:
        UserError: what lies on the disk contradicts the settings (too small a vocabulary), or is no JSON; a source
            would be read more often than it may.
    """
    return render({f"Plan of stage={config.stage}": folder_rows(config)} | _sections(config))


def _sections(config: RunConfig) -> dict[str, Rows]:
    match config:
        case TokenizerConfig():
            return tokenizer_sections(config)
        case TokenizeConfig():
            return tokenize_sections(config)
        case PretrainConfig():
            return pretrain_sections(config)
        case SFTConfig():
            return sft_sections(config)
        case EvalConfig():
            return evaluation_sections(config)
        case ReportStageConfig():
            return {"Evaluations": [(config.label(name), path) for name, path in config.evaluations.items()]}
    return {}
