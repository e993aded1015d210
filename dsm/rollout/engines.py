"""The engine that a run's settings name."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from dsm.config.engine import EngineConfig, VLLMConfig
from dsm.models.wrapper import CausalLM
from dsm.rollout.embedded import EmbeddedEngine
from dsm.rollout.engine import RolloutEngine, Weights


def make_engine(
    config: EngineConfig | VLLMConfig,
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    weights: Weights | None = None,
) -> RolloutEngine:
    """An engine with the model's weights, or with those given in their place.

    Raises:
        UserError: engine=vllm, and vLLM cannot be imported here.
    """
    if isinstance(config, VLLMConfig):
        from dsm.rollout.vllm import VLLMEngine  # imported only where it is asked for: it takes seconds

        return VLLMEngine(model, tokenizer, config, weights)
    return EmbeddedEngine(model, tokenizer, config, weights)
