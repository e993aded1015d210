"""`mode=plan`: what a run would do and cost, by its settings and what lies on the disk; no torch, no weights, no data.

Numbers that only the data can tell (steps when the budget is in epochs, how full sequences get) are named as such.
"""

from __future__ import annotations

from collections.abc import Iterator

from dsm.config.annotate import AnnotateConfig
from dsm.config.crawl import CrawlStageConfig
from dsm.config.decontaminate import DecontaminateConfig
from dsm.config.evaluation import EvalConfig
from dsm.config.explain import shown
from dsm.config.mine import MineConfig
from dsm.config.pipeline import PipelineConfig
from dsm.config.plan.disk import folder_rows
from dsm.config.plan.evaluation import evaluation_sections
from dsm.config.plan.mine import crawl_sections, decontaminate_sections, mine_sections
from dsm.config.plan.pretrain import pretrain_sections
from dsm.config.plan.reward import label_sections, reward_sections
from dsm.config.plan.rl import rl_sections
from dsm.config.plan.rollouts import rollouts_sections
from dsm.config.plan.sft import sft_sections
from dsm.config.plan.table import Rows, render
from dsm.config.plan.texts import tokenize_sections, tokenizer_sections
from dsm.config.pretrain import PretrainConfig
from dsm.config.problems import ProblemsStageConfig
from dsm.config.report import ReportStageConfig
from dsm.config.reward_model import LabelConfig, RewardTrainingConfig
from dsm.config.rl import RLConfig
from dsm.config.rollout import RolloutsConfig
from dsm.config.run import RunConfig, SFTConfig, TokenizerConfig
from dsm.config.store import TokenizeConfig

__all__ = ["plan_text"]


def plan_text(config: RunConfig) -> str:
    """The plan of a run as aligned lines.

    Raises:
        UserError: what lies on the disk contradicts the settings (too small a vocabulary), or is no JSON; a source
            would be read more often than it may.
    """
    plan = render({f"Plan of stage={config.stage}": folder_rows(config)} | _sections(config))
    return "\n\n".join(_step_plans(config, plan)) if isinstance(config, PipelineConfig) else plan


def _step_plans(config: PipelineConfig, plan: str) -> Iterator[str]:
    """Each step's plan, then the pipeline's own: what a person reads first stands where the terminal ends."""
    from dsm.config.plan.pipeline import pipeline_rows
    from dsm.config.steps import pipeline_steps  # composes, so it knows all stages

    steps = pipeline_steps(config)
    plans = [
        {f"Plan of stage={step.config.stage}": folder_rows(step.config)} | _sections(step.config) for step in steps
    ]
    for number, (step, sections) in enumerate(zip(steps, plans, strict=True), start=1):
        yield f"== step {number} of {len(steps)}: {step.name}\n{render(sections)}"
    yield plan
    yield render({"Steps": pipeline_rows(steps, plans, config.at_once)})


def _sections(config: RunConfig) -> dict[str, Rows]:
    match config:
        case CrawlStageConfig():
            return crawl_sections(config)
        case MineConfig():
            return mine_sections(config)
        case AnnotateConfig():
            return {"Annotation": [("run", config.run), ("annotator", config.annotator or "your login name")]}
        case DecontaminateConfig():
            return decontaminate_sections(config)
        case TokenizerConfig():
            return tokenizer_sections(config)
        case TokenizeConfig():
            return tokenize_sections(config)
        case PretrainConfig():
            return pretrain_sections(config)
        case SFTConfig():
            return sft_sections(config)
        case RolloutsConfig():
            return rollouts_sections(config)
        case RLConfig():
            return rl_sections(config)
        case LabelConfig():
            return label_sections(config)
        case RewardTrainingConfig():
            return reward_sections(config)
        case EvalConfig():
            return evaluation_sections(config)
        case ProblemsStageConfig():
            settings = config.problems.model_dump(exclude_none=True)
            return {"Problems": [(key, shown(value)) for key, value in settings.items()]}
        case ReportStageConfig():
            sections = {
                "Evaluations": [(config.label(name), path) for name, path in config.evaluations.items()],
                "Runs": [(config.label(name), path) for name, path in config.runs.items()],
                "Findings": [(name, f"{one.metric}: {one.claim}") for name, one in config.findings.items()],
            }
            return {title: rows for title, rows in sections.items() if rows}
    return {}
