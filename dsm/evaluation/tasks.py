"""What has to stand before the model is loaded: items read, golds checked, prompts made, judges at hand."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from dsm.answers import EXTRACTORS, GraderPool
from dsm.config.answers import POOL_SETTINGS, GraderConfig
from dsm.config.benchmark import BenchmarkConfig, FewShotConfig, Prompting
from dsm.config.evaluation import EvalConfig
from dsm.config.listing import closest
from dsm.data.records import Rejected
from dsm.errors import UserError
from dsm.evaluation.benchmarks import Item, check_golds, items_fingerprint, load_items
from dsm.evaluation.judge import AnswerJudge, Judge, ProgramJudge, TestsJudge
from dsm.evaluation.prompts import Prompt, Prompter
from dsm.files import atomic_write_text
from dsm.models.fingerprint import model_fingerprint
from dsm.rollout.engine import RolloutEngine
from dsm.runtime.session import Session
from dsm.sandbox import Sandbox
from dsm.tools.tool_use import ToolUse

log = logging.getLogger("dsm")
_SHOWN = 5  # offending items that an error names


@dataclass(frozen=True)
class Task:
    """A benchmark made ready: everything but the model.

    `protocol` says how the numbers come about: two results are comparable where it is the same, and an evaluation goes
    on only where it still is.
    """

    name: str
    config: BenchmarkConfig
    items: tuple[Item, ...]
    prompter: Prompter
    prompts: tuple[Prompt, ...]
    protocol: dict[str, Any]

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.config.title or self.name


class Bench:
    """Makes tasks of benchmarks, and the judges that they need; the pools live as long as `stack`."""

    def __init__(
        self, config: EvalConfig, tokenizer: PreTrainedTokenizerBase, positions: int | None, stack: ExitStack
    ) -> None:
        self.config, self.tokenizer, self.positions, self._stack = config, tokenizer, positions, stack
        self._pools: dict[GraderConfig, GraderPool] = {}
        self.model = model_fingerprint(config.model.path) if config.model.path is not None else "new"

    @property
    def prompting(self) -> Prompting:
        """How items are asked: as set, or by whether the tokenizer brings a chat form."""
        if self.config.prompting != "auto":
            return self.config.prompting
        return "zero_shot" if getattr(self.tokenizer, "chat_template", None) else "few_shot"

    def task(self, name: str, here: Session) -> Task:
        """A benchmark made ready.

        Raises:
            UserError: the data cannot be read, golds do not equal themselves, or prompts do not fit the model.
        """
        config = self.config.benchmarks[name]
        if (extractor := self._extractor(name)) not in EXTRACTORS:
            key = f"benchmarks.{name}.{self.prompting}.extractor={extractor}"
            raise UserError(f"{key}: must be one of {', '.join(EXTRACTORS)}{closest(extractor, EXTRACTORS)}")
        items, rejected = load_items(name, config, root=self.config.data_root, limit=self.config.limit)
        items = self._with_good_golds(name, items, rejected)
        if here.world.first:
            _report_rejected(name, rejected, here.run.path)
        prompter = Prompter(
            name,
            config,
            self.prompting,
            self.tokenizer,
            positions=self.positions,
            max_new_tokens=self.config.sampling.max_new_tokens,
            root=self.config.data_root,
        )
        prompts = tuple(map(prompter.render, items))
        return Task(name, config, tuple(items), prompter, prompts, self._protocol(name, items, prompter))

    def _with_good_golds(self, name: str, items: list[Item], rejected: list[Rejected]) -> list[Item]:
        if self.config.benchmarks[name].kind == "code":
            return items  # tests judge, not golds
        bad = {gold.id: gold for gold in check_golds(items, self.pool(name))}
        if not bad:
            return items
        shown = "; ".join(f"item {gold.id}: {gold.gold!r} ({gold.reason})" for gold in list(bad.values())[:_SHOWN])
        if self.config.bad_golds == "error" or len(bad) == len(items):
            raise UserError(
                f"benchmarks.{name}: {len(bad)} of {len(items)} reference answers do not equal themselves for"
                f" grader.name={self.config.grader.name}: {shown}; correct them, or bad_golds=set_aside leaves them out"
            )
        rejected += [
            Rejected(f"{name}:{gold.id}", f"the reference answer does not equal itself: {gold.reason}", gold.gold)
            for gold in bad.values()
        ]
        return [item for item in items if item.id not in bad]

    def _extractor(self, name: str) -> str:
        config = self.config.benchmarks[name]
        official = getattr(config.official, self.prompting) if self.config.grader.name == "paper" else None
        return official or config.protocol(self.prompting).extractor

    def _protocol(self, name: str, items: Sequence[Item], prompter: Prompter) -> dict[str, Any]:
        config = self.config.benchmarks[name]
        sampling = self.config.sampling_of(config)
        asked = config.protocol(self.prompting)
        return {
            "model": self.model,
            "data": items_fingerprint(items),
            "prompting": self.prompting,
            "prompt": prompter.sha256,
            "shots": asked.shots if isinstance(asked, FewShotConfig) else 0,
            "kind": config.kind,
            "tool": asked.tool,
            "stop": list(asked.stop),
            "extractor": self._extractor(name),
            "grader": self.grader(name).model_dump(exclude=POOL_SETTINGS),
            "max_new_tokens": sampling.max_new_tokens or config.max_new_tokens,
            "n": sampling.n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": self.config.seed,
        }

    # ------------------------------------------------------------ judges

    def grader(self, name: str) -> GraderConfig:
        """The run's grader with the benchmark's own house rules."""
        return self.config.grader_of(name)

    def pool(self, name: str) -> GraderPool:
        """The processes that compare a benchmark's answers; benchmarks with the same rules share them."""
        rules = self.grader(name)
        if rules not in self._pools:
            self._pools[rules] = self._stack.enter_context(GraderPool(rules))
        return self._pools[rules]

    @cached_property
    def sandbox(self) -> Sandbox:
        """Where model-written programs run; started by the first benchmark that has any."""
        return self._stack.enter_context(Sandbox(self.config.sandbox))

    def judge(self, task: Task) -> Judge | None:
        """Who judges what is written for a task; None where nothing is written.

        Raises:
            UserError: programs would have to run, and cannot be isolated here.
        """
        if task.config.kind == "choices":
            return None
        if task.config.kind == "code":
            return TestsJudge(self.sandbox, self.config.tools)
        if task.protocol["tool"] == "pot":
            result = task.config.protocol(self.prompting).result
            return ProgramJudge(self.sandbox, self.config.tools, self.pool(task.name), result)
        return AnswerJudge(task.protocol["extractor"], self.pool(task.name))

    def tool_use(self, task: Task, engine: RolloutEngine) -> ToolUse | None:
        """The loop of text and programs, for a task that has one."""
        if task.config.kind != "generate" or task.protocol["tool"] != "tir":
            return None
        return ToolUse(engine, self.sandbox, self.tokenizer, self.config.tools, self.positions)


def _report_rejected(name: str, rejected: Sequence[Rejected], folder: Path) -> None:
    """Rows set aside are counted on the terminal and kept, with their reasons, in the run's folder."""
    if not rejected:
        return
    file = folder / f"rejected.{name}.jsonl"
    atomic_write_text(file, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rejected))
    first = f"{rejected[0].location}: {rejected[0].reason}"
    log.warning("%s: %s rows set aside, see %s; the first: %s", name, f"{len(rejected):,}", file, first)
