"""What an algorithm is made of: an advantage, a policy term, a KL penalty, and which samples count.

The parts are chosen one by one, so most new algorithms are a file of conf/algorithm; `custom` takes a function of the
user's own for the advantage or the policy term. The formulas are in `dsm.objectives`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dsm.config.base import Count, Schema
from dsm.config.functions import check_call, find_function
from dsm.config.training import LossConfig

Need = Literal["old", "reference", "values", "steps", "engine"]
"""What an algorithm must be told of a sample's tokens: log-probabilities of the trainer before the update, of the
reference, of the engine; a critic's values; rewards of steps."""


class OneConfig(Schema):
    """1 for every token: supervised fine-tuning (Eq. 7)."""

    name: Literal["one"]


class CorrectConfig(Schema):
    """1 where the rule calls the answer right, else 0: rejection sampling (Eq. 10)."""

    name: Literal["correct"]


class GroupConfig(Schema):
    """(r - mean r) / std r over the samples of one prompt (4.1.2)."""

    name: Literal["group"]
    ddof: Literal[0, 1] = Field(description="std divides by n - ddof; the paper does not say")
    eps: float = Field(ge=0, description="added to the std; equal rewards give 0 whatever it is")


class MeanOnlyConfig(Schema):
    """r - mean r over the samples of one prompt (Dr. GRPO)."""

    name: Literal["mean_only"]


class LeaveOneOutConfig(Schema):
    """r - mean of the other samples of its prompt (RLOO)."""

    name: Literal["leave_one_out"]


class ProcessConfig(Schema):
    """Sum of the normalised rewards of the steps that end at a token or later (4.1.3)."""

    name: Literal["process"]
    ddof: Literal[0, 1] = Field(description="std over all steps of all samples of a prompt divides by n - ddof")
    eps: float = Field(ge=0, description="added to the std; equal rewards give 0 whatever it is")


class GAEConfig(Schema):
    """Generalised advantage estimation with a critic (Eq. 1)."""

    name: Literal["gae"]
    gamma: float = Field(ge=0, le=1, description="discount a token")
    lam: float = Field(ge=0, le=1, description="1 = return - value, 0 = one-step difference")
    value_clip: float | None = Field(gt=0, description="how far a value may move in one exploration; null = freely")


class PairsConfig(Schema):
    """Pairs of a better and a worse answer to one prompt (Eq. 12); a sample is in one pair at most."""

    name: Literal["pairs"]
    by: Literal["correct", "reward"] = Field(description="better is: right by the rule | of the higher reward")
    per_group: Count | None = Field(description="pairs of one prompt at most; null = as many as there are")


class CustomConfig(Schema):
    """A function of the user's own, of the samples of an exploration."""

    name: Literal["custom"]
    function: str = Field(description="package.module:name or path/file.py:name")
    options: dict[str, Any] = Field(default_factory=dict, description="its further keyword arguments")

    positional: ClassVar[int] = 1  # arguments ahead of them

    @model_validator(mode="after")
    def _can_be_called(self) -> Self:
        found = find_function(self.function)
        if found is not None:
            check_call(found, self.options, "options", self.positional)
        return self


AdvantageConfig = Annotated[
    OneConfig
    | CorrectConfig
    | GroupConfig
    | MeanOnlyConfig
    | LeaveOneOutConfig
    | ProcessConfig
    | GAEConfig
    | PairsConfig
    | CustomConfig,
    Field(discriminator="name"),
]


class LikelihoodConfig(Schema):
    """advantage * log pi: no ratio, no clipping."""

    name: Literal["likelihood"]


class ClippedConfig(Schema):
    """min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), rho = pi / pi_old of a token (Eq. 1, Eq. 3)."""

    name: Literal["clipped"]
    clip_low: float = Field(gt=0, le=1)
    clip_high: float = Field(gt=0)


class SequenceConfig(Schema):
    """The same with one ratio an answer, the geometric mean of its tokens' (GSPO)."""

    name: Literal["sequence"]
    clip_low: float = Field(gt=0, le=1)
    clip_high: float = Field(gt=0)


class CISPOConfig(Schema):
    """A log pi weighted by the ratio, which is clipped and not differentiated (CISPO)."""

    name: Literal["cispo"]
    min_ratio: float = Field(ge=0, le=1, description="the weight is at least this; 0 = no lower limit")
    max_ratio: float = Field(ge=1, description="the weight is at most this (the ratio itself, not 1 + epsilon)")


class PreferenceConfig(Schema):
    """log sigma(beta (log-ratio of the better - log-ratio of the worse)) to the reference (Eq. 12)."""

    name: Literal["preference"]
    beta: float = Field(gt=0)
    over: Literal["mean", "sum"] = Field(description="an answer's log-ratio: mean (paper) | sum (DPO) over its tokens")


class CustomPolicyConfig(CustomConfig):
    """A function of the user's own, of log-probabilities, those of before, advantages and the micro-batch."""

    positional: ClassVar[int] = 4


PolicyConfig = Annotated[
    LikelihoodConfig | ClippedConfig | SequenceConfig | CISPOConfig | PreferenceConfig | CustomPolicyConfig,
    Field(discriminator="name"),
]


class KLConfig(Schema):
    """The penalty on leaving the reference (Eq. 4; Eq. 2 where it is in the reward)."""

    coef: float = Field(ge=0, description="beta; 0 = none, and no reference model is needed")
    estimator: Literal["k1", "k2", "k3"]
    place: Literal["loss", "reward"]
    weighted: bool = Field(
        default=False,
        description="the estimate times pi / pi_old: with k3 the gradient is then that of KL(pi || reference)",
    )
    common_length: Count | None = Field(
        default=None,
        description="M, where the policy term is averaged over M tokens of every answer and the KL over its own",
    )


class AlgorithmConfig(Schema):
    """One row of the paper's Table 10, or a relative."""

    name: str = Field(pattern=r"^\w+$")
    advantage: AdvantageConfig
    policy: PolicyConfig
    kl: KLConfig
    max_engine_weight: float | None = Field(
        gt=0, description="the policy term is weighted by min(pi_old / pi_engine, this); null = not at all"
    )
    truncated: Literal["keep", "drop"] = Field(description="answers cut off at the length limit are trained on | not")
    saturated: Literal["keep", "drop", "refill"] = Field(
        description="prompts whose samples say nothing of better or worse: kept | left out | replaced by others"
    )
    saturated_by: Literal["reward", "correct"] = Field(description="all samples have the same reward | verdict")

    @property
    def needs(self) -> frozenset[Need]:
        """What must be known of each sample, whatever the number of updates on it."""
        found: set[Need] = set()
        penalised = self.kl.coef > 0
        if penalised or isinstance(self.policy, PreferenceConfig):
            found.add("reference")
        if penalised and self.kl.place == "reward":
            found.add("old")
        if isinstance(self.advantage, GAEConfig):
            found.add("values")
        if isinstance(self.advantage, ProcessConfig):
            found.add("steps")
        if self.max_engine_weight is not None:
            found.add("engine")
        return frozenset(found)

    def misfit(self, loss: LossConfig) -> str | None:
        """What of the loss contradicts the algorithm, as 'key=value: what is wrong; what is allowed', or None."""
        given = f"loss.normalisation={loss.normalisation}"
        if isinstance(self.policy, PreferenceConfig) and loss.normalisation != "sequence":
            return f"{given}: a pair counts once whatever its lengths; algorithm={self.name} needs loss=sequence"
        length = self.kl.common_length
        if length is not None and (loss.normalisation, loss.constant_length) != ("constant", length):
            return (
                f"{given}: algorithm.kl.common_length={length} is the length that answers are averaged over; it needs"
                f" loss=constant loss.constant_length={length}"
            )
        return None

    @model_validator(mode="after")
    def _parts_fit(self) -> AlgorithmConfig:
        paired, preferring = isinstance(self.advantage, PairsConfig), isinstance(self.policy, PreferenceConfig)
        if paired != preferring:
            raise ValueError(
                f"advantage.name={self.advantage.name}: pairs goes with policy.name=preference and only with it"
                f" (policy.name={self.policy.name})"
            )
        if preferring and self.kl.coef > 0:
            raise ValueError(f"kl.coef={self.kl.coef}: policy.name=preference has the reference in it already; give 0")
        if preferring and self.max_engine_weight is not None:
            raise ValueError(f"max_engine_weight={self.max_engine_weight}: pairs are not weighted; give null")
        rewarded = (GroupConfig, MeanOnlyConfig, LeaveOneOutConfig, GAEConfig, CustomConfig)
        if self.kl.place == "reward" and not isinstance(self.advantage, rewarded):
            raise ValueError(f"kl.place=reward: advantage.name={self.advantage.name} takes no such reward; give loss")
        if self.kl.place == "reward" and self.kl.weighted:
            raise ValueError("kl.weighted=true: a reward has no gradient to correct; give false, or kl.place=loss")
        if self.kl.place == "reward" and self.kl.common_length is not None:
            raise ValueError(f"kl.common_length={self.kl.common_length}: is for kl.place=loss; give null")
        return self
