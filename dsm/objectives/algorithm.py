"""An algorithm of the paper's paradigm: data and rewards in, gradient coefficients out (Table 10 and its relatives).

    objective_t = [min(pi_old / pi_engine, cap)] * policy term(log pi_t, log pi_old_t, A_t)  -  beta KL_t

`assign` makes the advantages A once an exploration, on the host; `objective` is what the shared step maximises, and its
derivative at log pi_t is the gradient coefficient of Eq. 5. Parts are chosen by configuration (`conf/algorithm`):

| algorithm       | advantage A            | policy term            | KL                    | normalisation |
|-----------------|------------------------|------------------------|-----------------------|---------------|
| sft             | 1                      | likelihood             | -                     | sequence      |
| rft, online_rft | 1 if correct else 0    | likelihood             | -                     | sequence      |
| dpo, dpo_sum    | pairs                  | preference (mean, sum) | in it                 | sequence      |
| ppo             | GAE                    | clipped                | k1 in the reward      | sequence      |
| grpo            | group                  | clipped                | k3 in the loss        | sequence      |
| grpo_process    | process                | clipped                | k3 in the loss        | sequence      |
| grpo_seed       | group                  | clipped                | k3 outside the sum    | constant      |
| dr_grpo         | mean-only              | clipped                | -                     | constant      |
| dapo            | group, without equal ones | clipped, higher above | -                   | token         |
| gspo            | group                  | sequence               | -                     | sequence      |
| cispo           | group                  | cispo                  | -                     | token         |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dsm.config.algorithm import (
    AlgorithmConfig,
    CISPOConfig,
    ClippedConfig,
    CustomConfig,
    LikelihoodConfig,
    Need,
    PreferenceConfig,
    SequenceConfig,
)
from dsm.data.batch import MicroBatch
from dsm.objectives.assign import assign
from dsm.objectives.custom import load_function
from dsm.objectives.kl import ESTIMATORS
from dsm.objectives.observe import observe_all, tell_all
from dsm.objectives.policy import CISPO, Clipped, Custom, Likelihood, PolicyTerm, SequenceClipped, engine_weights
from dsm.objectives.preference import pair_margins, preference
from dsm.objectives.samples import Assigned, Samples
from dsm.objectives.sequences import spread, trained_lengths
from dsm.objectives.streams import old_logprobs, stream

__all__ = ["Algorithm", "Assigned", "Samples", "build_algorithm"]


class Algorithm(Protocol):
    """What the stage asks of an algorithm."""

    @property
    def config(self) -> AlgorithmConfig:
        """What it was made from."""
        ...

    @property
    def needs(self) -> frozenset[Need]:
        """What `Samples` must bring."""
        ...

    def assign(self, samples: Samples) -> Assigned:
        """Which samples are trained on, and the streams at their tokens."""
        ...

    def objective(self, logprobs: Tensor, entropy: Tensor, batch: MicroBatch) -> Tensor:
        """What is to rise, (T,); weighted and divided by a count in the step."""
        ...

    def observe(self, logprobs: Tensor, entropy: Tensor, weights: Tensor, batch: MicroBatch) -> dict[str, Tensor]:
        """Sums over the micro-batch's tokens for `tell`; of names that start with 'max/', the largest."""
        ...

    def tell(self, sums: dict[str, float], tokens: int, sequences: int) -> dict[str, float]:
        """Metrics by name from the sums over a step."""
        ...


@dataclass(frozen=True)
class _Configured:
    config: AlgorithmConfig

    @property
    def needs(self) -> frozenset[Need]:
        return self.config.needs

    def assign(self, samples: Samples) -> Assigned:
        return assign(self.config, samples)

    def objective(self, logprobs: Tensor, entropy: Tensor, batch: MicroBatch) -> Tensor:
        raise NotImplementedError

    def observe(self, logprobs: Tensor, entropy: Tensor, weights: Tensor, batch: MicroBatch) -> dict[str, Tensor]:
        term = getattr(self, "term", None)
        cap = self.config.max_engine_weight
        return observe_all(self.objective, term, cap, logprobs, entropy, weights, batch)

    def tell(self, sums: dict[str, float], tokens: int, sequences: int) -> dict[str, float]:
        return tell_all(sums, tokens)


@dataclass(frozen=True)
class Composed(_Configured):
    """A policy term weighted by advantages, and a KL penalty."""

    term: PolicyTerm

    def objective(self, logprobs: Tensor, entropy: Tensor, batch: MicroBatch) -> Tensor:
        """The formula at the top of this module, (T,)."""
        config = self.config
        old = old_logprobs(logprobs, batch)
        gain = self.term(logprobs, old, stream("advantage", logprobs, batch), batch)
        if config.max_engine_weight is not None:
            gain = gain * engine_weights(old, stream("engine", logprobs, batch), config.max_engine_weight)
        if config.kl.coef == 0 or config.kl.place == "reward":
            return gain
        penalty = ESTIMATORS[config.kl.estimator](logprobs, stream("reference", logprobs, batch))
        if config.kl.weighted:
            penalty = penalty * torch.exp(logprobs - old)
        if config.kl.common_length is not None:
            # The step divides every token by M; times M / |o_i| the KL is its mean over the answer's own tokens:
            # (1/G) sum_i [ (1/M) sum_t min(...) - beta (1/|o_i|) sum_t KL_it ].
            penalty = penalty * config.kl.common_length / spread(trained_lengths(batch), batch)
        return gain - config.kl.coef * penalty


@dataclass(frozen=True)
class Preferring(_Configured):
    """Pairs of answers: DPO."""

    preference: PreferenceConfig

    def objective(self, logprobs: Tensor, entropy: Tensor, batch: MicroBatch) -> Tensor:
        """log sigma(Delta) of the pair, (T,)."""
        reference, preferred = stream("reference", logprobs, batch), stream("preferred", logprobs, batch)
        return preference(logprobs, reference, preferred, batch, self.preference.beta, self.preference.over)

    def observe(self, logprobs: Tensor, entropy: Tensor, weights: Tensor, batch: MicroBatch) -> dict[str, Tensor]:
        """What all tell, and of pairs: in how many the better answer gained more than the worse one, and Delta."""
        reference, preferred = stream("reference", logprobs, batch), stream("preferred", logprobs, batch)
        delta = self.preference.beta * pair_margins(logprobs, reference, preferred, batch, self.preference.over)
        return super().observe(logprobs, entropy, weights, batch) | {
            "preference/accuracy": (delta > 0).sum(),
            "preference/delta": delta.sum(),
            "preference/known": torch.tensor(float(len(delta)), device=delta.device),
        }


def build_algorithm(config: AlgorithmConfig) -> Algorithm:
    """The algorithm that a configuration describes.

    Raises:
        UserError: a custom function that cannot be found.
    """
    match config.policy:
        case PreferenceConfig():
            return Preferring(config, config.policy)
        case LikelihoodConfig():
            term: PolicyTerm = Likelihood()
        case ClippedConfig():
            term = Clipped(1 - config.policy.clip_low, 1 + config.policy.clip_high)
        case SequenceConfig():
            term = SequenceClipped(1 - config.policy.clip_low, 1 + config.policy.clip_high)
        case CISPOConfig():
            term = CISPO(config.policy.min_ratio, config.policy.max_ratio)
        case CustomConfig():
            function = load_function(config.policy.function, "algorithm.policy.function")
            term = Custom(function=function, options=config.policy.options)
    if isinstance(config.advantage, CustomConfig):
        load_function(config.advantage.function, "algorithm.advantage.function")  # before anything is sampled
    return Composed(config, term)
