"""What an answer is worth: parts with weights, gates and shaping (the reward function of Eq. 5, by name).

    reward = sum over parts of  weight * clip(scale * value + bias)   where the part's gate is open

A gate, not a sum, is how parts belong together: a format reward that is merely added pays for well-formed wrong
answers, and longer and longer ones.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from dsm.config.answers import GraderConfig
from dsm.config.base import HUB_PREFIX, Count, Schema
from dsm.config.functions import check_call, find_function

_NAME = re.compile(r"[A-Za-z]\w*")


class _Part(Schema):
    """What all parts have."""

    weight: float = Field(default=1.0, description="factor in the sum; 0: scored and logged, no part of the reward")
    gate: str | None = Field(
        default=None,
        description="counts only where that other part counts and is above 0 (after its shaping), else it adds 0; "
        "correct gated by format is correct * format",
    )
    scale: float = Field(default=1.0, description="shaping: clip(scale * value + bias) between low and high")
    bias: float = Field(default=0.0, description="see scale")
    low: float | None = Field(default=None, description="lower end of the clip; null = none")
    high: float | None = Field(default=None, description="upper end of the clip; null = none")

    @model_validator(mode="after")
    def _clip_has_an_inside(self) -> _Part:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low={self.low:g}: must be less than high={self.high:g}")
        return self


class _GoldPart(_Part):
    """A part that compares with a reference answer: 1 if equal, 0 if not."""

    gold: str = Field(
        default="gold",
        min_length=1,
        description="column of the reference answer, or several as a|b: the first that the row has",
    )
    gold_form: Literal["auto", "text", "hashes", "boxed"] = Field(
        default="auto",
        description="what is taken of it: hashes: what follows ####; boxed: the last box of a solution; text: all of "
        "it; auto: the first of these three that is there",
    )
    grader: dict[str, Any] = Field(
        default_factory=dict, description="house rules of this part: they replace the grader's own of these names"
    )

    def grader_with(self, grader: GraderConfig) -> GraderConfig:
        """The run's grader with this part's own house rules."""
        return GraderConfig.model_validate(grader.model_dump() | self.grader)


class AnswerPart(_GoldPart):
    """The answer in the text, compared by the grader. Says which samples are correct."""

    name: Literal["answer"]
    extractor: str = Field(default="final", description="how the answer is found; see dsm.answers.extract")


class ProgramPart(_GoldPart):
    """The program in the text is run in the sandbox; what it computes is the answer. Says which are correct."""

    name: Literal["program"]
    result: str | None = Field(
        default=None, description="what is read when it has run, as solution() or answer; null = its last line"
    )


class CodePart(_Part):
    """The program in the text has to pass tests in the sandbox: 1 or 0. Says which samples are correct."""

    name: Literal["code"]
    tests: str = Field(default="tests", min_length=1, description="column of the tests: text, or a list of lines")
    entry_point: str | None = Field(
        default=None, description="column of the tested function's name, where the question is that function's head"
    )


class FormatPart(_Part):
    """1 where the answer has all the form that is asked for, else 0."""

    name: Literal["format"]
    box: bool = Field(default=True, description="the answer stands in a box, in exactly one, which is closed")
    eos: bool = Field(default=True, description="the model ended it itself: no limit cut it off, no stop string did")
    fences: bool = Field(
        default=False,
        description="code fences come in pairs and hold python; every output block is the interpreter's, none the "
        "model's own",
    )
    pattern: str | None = Field(
        default=None, description="a regular expression that is found in the answer, '.' being a line end too"
    )
    timeout_s: float = Field(default=10.0, gt=0, le=3600, description="seconds for the pattern on one group")

    @model_validator(mode="after")
    def _asks_something(self) -> FormatPart:
        if not (self.box or self.eos or self.fences or self.pattern):
            raise ValueError("box=false: nothing is asked of the format; set one of box, eos, fences, pattern")
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(f"pattern={self.pattern}: no regular expression: {error}") from None
        return self


class LengthPart(_Part):
    """DAPO's soft punishment of overlong answers (its Eq. 13): 0, falling to -1 over the last `buffer` tokens."""

    name: Literal["length"]
    max_tokens: Count = Field(description="-1 from here on; tokens that the model wrote")
    buffer: Count = Field(description="0 up to max_tokens - buffer, a straight line in between")

    @model_validator(mode="after")
    def _fits(self) -> LengthPart:
        if self.buffer > self.max_tokens:
            raise ValueError(f"buffer={self.buffer}: must not be above max_tokens={self.max_tokens}")
        return self


class _StepPart(_Part):
    solution: Literal["min", "product", "last"] = Field(
        default="min",
        description="step rewards as one number: the weakest step, all of them, the last (Math-Shepherd: min)",
    )


class ModelPart(_StepPart):
    """A reward model's score (paper section 4.1): of the whole answer, or of each of its steps."""

    name: Literal["reward_model"]
    path: str = Field(min_length=1, description="its Hugging Face folder, as stage=reward exports it, or hub:org/name")
    supervision: Literal["outcome", "process"] = Field(
        default="outcome",
        description="outcome: a score at the last token; process: a probability at the end of each step",
    )


class FunctionPart(_StepPart):
    """A function of your own, with TRL's signature, in a process of its own that can be killed."""

    name: Literal["custom"]
    function: str = Field(
        description="package.module:name or path/file.py:name; called as name(prompts=, completions=, completion_ids=, "
        "one list a column, ...) with the samples of one prompt; returns a number for each, or None: the part does not "
        "apply, and a sample that no part applies to has no reward"
    )
    arguments: dict[str, Any] | None = Field(
        default=None, description="the name is called with these first and returns the function (or makes the object)"
    )
    form: Literal["text", "messages"] = Field(
        default="text",
        description="prompts and completions as texts, or as lists of messages {role, content} (TRL: conversational)",
    )
    steps: bool = Field(
        default=False,
        description="process supervision: it gets `steps` too (texts) and returns a list for each sample, one number a "
        "step",
    )
    retry: bool = Field(
        default=True,
        description="a call that fails is repeated sample by sample, to find the culprit and save the others; false "
        "for a function that compares the samples of a prompt with each other",
    )
    workers: Count = Field(default=1, description="processes; each holds one call at a time")
    timeout_s: float = Field(default=30.0, gt=0, le=3600, description="seconds for one call")
    start_s: float = Field(default=120.0, gt=0, le=3600, description="seconds to import it")
    memory_mb: int = Field(default=4096, ge=64, le=2**22, description="MiB that a process may allocate")

    @model_validator(mode="after")
    def _can_be_called(self) -> FunctionPart:
        found = find_function(self.function)
        if found is not None and self.arguments is not None:
            try:
                check_call(found, self.arguments, "arguments")
            except ValueError as error:
                what = f"{found.name} is called with arguments to make the reward; with arguments=null it is the reward"
                raise ValueError(f"{error}; {what}") from None
        return self


PartConfig = Annotated[
    AnswerPart | ProgramPart | CodePart | FormatPart | LengthPart | ModelPart | FunctionPart,
    Field(discriminator="name"),
]
RULES = (AnswerPart, ProgramPart, CodePart)
"""Parts that say which samples are correct."""


CALL_SETTINGS = {"workers", "timeout_s", "start_s", "memory_mb"}
"""Settings of parts that change what becomes a fault, and no reward."""


class RewardConfig(Schema):
    """The reward of a run: its parts by name, and how many samples may go without one."""

    parts: dict[str, PartConfig]
    max_fault_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="the run stops where more than this share of an exploration's samples have a fault (a part threw, "
        "hung, returned NaN, no part applies); a sample without a reward is never trained on",
    )

    @property
    def needs_sandbox(self) -> bool:
        """Whether model-written programs run."""
        return any(isinstance(part, ProgramPart | CodePart) for part in self.parts.values())

    @property
    def process_parts(self) -> list[str]:
        """Names of the parts that reward steps: `Scored.steps` is there if there is one."""
        return [name for name, part in self.parts.items() if rewards_steps(part)]

    @property
    def paths(self) -> dict[str, str]:
        """Local folders that are read, by the key that names them."""
        return {
            f"reward.parts.{name}.path": part.path
            for name, part in self.parts.items()
            if isinstance(part, ModelPart) and not part.path.startswith(HUB_PREFIX)
        }

    def gates(self, name: str) -> list[str]:
        """The gates on a part, its own first, then that one's own, ..."""
        found: list[str] = []
        gate = self.parts[name].gate
        while gate is not None and gate not in found:
            found.append(gate)
            gate = self.parts[gate].gate if gate in self.parts else None
        return found

    @model_validator(mode="after")
    def _parts_fit_together(self) -> RewardConfig:
        if not any(part.weight for part in self.parts.values()):
            raise ValueError("parts: at least one part needs a weight that is not 0")
        for name, part in self.parts.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"parts.{name}: a name is letters, digits and _, beginning with a letter")
            if part.gate is not None and (part.gate not in self.parts or part.gate == name):
                others = ", ".join(other for other in self.parts if other != name) or "there is none"
                raise ValueError(f"parts.{name}.gate={part.gate}: must be another part ({others})")
            if name in self.gates(name):
                raise ValueError(f"parts.{name}.gate={part.gate}: the gates go round in a circle")
            if isinstance(part, _GoldPart):
                _check_rules(name, part)
        return self


def rewards_steps(part: PartConfig) -> bool:
    """Whether a part rewards each step of a solution."""
    if isinstance(part, ModelPart):
        return part.supervision == "process"
    return isinstance(part, FunctionPart) and part.steps


def _check_rules(name: str, part: _GoldPart) -> None:
    try:
        GraderConfig.model_validate(part.grader)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        allowed = f"unknown key; it takes {', '.join(GraderConfig.model_fields)}"
        message = allowed if problem["type"] == "extra_forbidden" else problem["msg"]
        raise ValueError(f"parts.{name}.grader.{key}={problem['input']}: {message}") from None


def cautions(config: RewardConfig, grader: GraderConfig) -> list[str]:
    """What is allowed and known to go wrong: one line each, to be logged before the run."""
    found = []
    for name, part in config.parts.items():
        if isinstance(part, _GoldPart) and part.weight:
            rules = part.grader_with(grader)
            if rules.name == "paper" or rules.percent_scale:
                which = "grader.name=paper" if rules.name == "paper" else "grader.percent_scale=true"
                found.append(
                    f"reward.parts.{name}: {which} forgives a factor of 100 (and the paper's 0.001 of the value): "
                    "good for comparing results, but a policy learns to use it; for rewards grader.name=strict "
                    "grader.percent_scale=false"
                )
    rules_there = [name for name, part in config.parts.items() if isinstance(part, RULES) and part.weight]
    for name, part in config.parts.items():
        if isinstance(part, FormatPart) and part.weight > 0 and rules_there and not config.gates(name):
            found.append(
                f"reward.parts.{name}: is added, so well-formed wrong answers are paid for, long ones as well; gate "
                f"instead: reward.parts.{name}.weight=0 reward.parts.{rules_there[0]}.gate={name}"
            )
        elif isinstance(part, FunctionPart) and not part.steps and part.weight and rules_there and part.gate is None:
            found.append(
                f"reward.parts.{name}: is added, so wrong answers get it too; if only right ones shall: "
                f"reward.parts.{name}.gate={rules_there[0]}"
            )
    return found
