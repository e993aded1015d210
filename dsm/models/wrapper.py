"""One face for every causal language model of `transformers`: packed tokens in, log-probabilities out.

The wrapper adds no weights. It hands the layout of the documents to the attention of each layer, and keeps the head
apart from the rest: the log-probabilities of a vocabulary are computed from hidden states chunk by chunk (`dsm.ops`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from dsm.errors import UserError
from dsm.models import attention as packed_attention
from dsm.models.norms import quicken_norms
from dsm.ops.logprobs import linear_logprobs
from dsm.ops.varlen import Varlen

if TYPE_CHECKING:
    from dsm.models.sharding import Sharding

Checkpointing = Literal["none", "selective", "full"]

# Settings of transformers' configurations that put something between final hidden states and logits, or cap scores.
_NOT_A_PLAIN_HEAD = (
    "final_logit_softcapping", "attn_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier",
    "output_multiplier",
)  # fmt: skip
_LAYER_TYPES = {"full_attention", "sliding_attention"}


class CausalLM(nn.Module):
    """A causal language model over packed documents.

    The network must be made of attention layers behind transformers' attention interface, with a head that is one
    linear map without bias on the final hidden states; tied and untied embeddings both do. Anything else is a
    `UserError`.
    """

    model: PreTrainedModel
    sharding: Sharding | None = None
    """How it is spread over processes; None for a whole model (`dsm.models.sharding`)."""
    task = "text-generation"
    """What an exported folder is for, in the words of the Hugging Face hub."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        attention: str = "auto",
        activation_checkpointing: Checkpointing = "none",
        compile: bool = False,
    ) -> None:
        super().__init__()
        _check_supported(model, self.head_of(model), bias=self.task != CausalLM.task)
        packed_attention.check_backend(attention)
        model.set_attn_implementation(packed_attention.NAME)
        quicken_norms(model)
        self.model = model
        self.attention = attention
        for block in self.blocks:
            # Bound to the block: the names of weights stay, and a deep copy runs its own weights. The compiler goes
            # inside, for it gives up on all of a checkpoint that holds one call it steps over (the attention).
            forward = type(block).forward
            if compile:
                forward = torch.compile(forward, dynamic=True)
            if activation_checkpointing == "full":
                forward = _checkpointed(forward)
            if forward is not type(block).forward:
                block.forward = MethodType(forward, block)
            if activation_checkpointing == "selective":
                for part in _cheap_parts(block):
                    bound: Any = part.forward  # to its class, or by `quicken_norms`
                    part.forward = MethodType(_checkpointed(bound.__func__), part)

    @property
    def blocks(self) -> list[nn.Module]:
        """The decoder blocks, first to last: the units of checkpointing, compilation and sharding."""
        return [module for module in self.model.base_model.modules() if isinstance(module, GradientCheckpointingLayer)]

    @property
    def head_weight(self) -> nn.Parameter:
        """(V, H), the head; the embedding's own parameter where they are tied."""
        weight = self.head_of(self.model).weight
        assert isinstance(weight, nn.Parameter)
        return weight

    @staticmethod
    def head_of(model: PreTrainedModel) -> nn.Module:
        """The module of a network that maps final hidden states to what it predicts."""
        return model.get_output_embeddings()

    def forward(self, input_ids: Tensor, varlen: Varlen) -> Tensor:
        """(T,) packed tokens -> (T, H) final hidden states; no token sees another document."""
        output = self.model.base_model(
            input_ids=input_ids[None],
            position_ids=varlen.position_ids()[None],
            use_cache=False,
            varlen=varlen,
            attention_backend=self.attention,
        )
        return output.last_hidden_state[0]

    def logprobs(
        self, input_ids: Tensor, varlen: Varlen, targets: Tensor, temperature: float | Tensor = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each target and entropy of the distribution it was drawn from.

        `targets` (T,) int64: what follows each token, `IGNORE` where nothing is predicted. `temperature` divides the
        logits; a number or (T,). Returns two (T,) fp32 tensors, zero where ignored.
        """
        hidden = self.forward(input_ids, varlen)  # no hooks: in a sharded model this method has those of forward
        device = hidden.device.type
        if torch.is_autocast_enabled(device):  # norms may hand on fp32
            hidden = hidden.to(torch.get_autocast_dtype(device))
        return linear_logprobs(hidden, self.head_weight, targets, temperature)

    def logits(self, input_ids: Tensor, varlen: Varlen) -> Tensor:
        """(T, V) full logits: for tests and for looking at a few tokens."""
        return F.linear(self.forward(input_ids, varlen), self.head_weight)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        eos_token_id: int | Sequence[int] | None = None,
        seed: int = 0,
    ) -> list[list[int]]:
        """Continue each prompt (token ids, at least one); one padded batch through transformers' own `generate`.

        Greedy at temperature 0, else sampled with `seed`; the process's random state stays untouched. Returns the new
        tokens only, up to the first end-of-sequence id, which is left out. No setting comes from the model's files.
        """
        if not prompts:
            return []
        if not all(prompts):
            raise ValueError("every prompt needs at least one token")
        ends = [eos_token_id] if isinstance(eos_token_id, int) else list(eos_token_id or [])
        device, longest = self.head_weight.device, max(map(len, prompts))
        input_ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        real = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
        options: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            options = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        settings = GenerationConfig(
            max_new_tokens=max_new_tokens, eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0, **options
        )
        with self._as_transformers_has_it(), seeded_rng(seed, device):
            output = self.model.generate(input_ids, attention_mask=real, generation_config=settings)
        return [_until(tokens, ends) for tokens in output[:, longest:].tolist()]

    @contextmanager
    def _as_transformers_has_it(self) -> Iterator[None]:
        """Evaluation mode, transformers' SDPA and eager blocks for a while; then everything as it was."""
        training, settings = self.training, self.model.generation_config
        self.eval()
        self.model.set_attn_implementation("sdpa")
        self.model.generation_config = GenerationConfig()
        try:
            with torch.compiler.set_stance("force_eager"):
                yield
        finally:
            self.model.generation_config = settings
            self.model.set_attn_implementation(packed_attention.NAME)
            self.train(training)

    def num_parameters(self, *, embedding: bool = True) -> int:
        """Number of weights, shared ones once; `embedding=False` leaves out the embedding and the head."""
        skipped = set() if embedding else {id(self.model.get_input_embeddings().weight), id(self.head_weight)}
        return sum(weight.numel() for weight in self.parameters() if id(weight) not in skipped)

    def flops_per_token(self, mean_attended_length: float) -> float:
        """Floating-point operations to train on one token, forward and backward, recomputation not counted.

            6 (N + V H) + 12 layers heads head_dim mean_attended_length

        A weight costs one multiply-add forward and two backward (6); N are the weights of the blocks, V H those of the
        head. Scores and their sum over values are two products over the attended keys, 4 per element forward and 12 in
        all. `mean_attended_length` is `Varlen.mean_attended_length`: (n + 1) / 2 for one document of n tokens. For
        dense models: of a mixture of experts this counts every expert.
        """
        config = self.model.config
        heads = config.num_attention_heads
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        weights = self.num_parameters(embedding=False) + self.head_weight.numel()
        return 6.0 * weights + 12.0 * config.num_hidden_layers * width * mean_attended_length


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A module's forward that keeps its input only and runs again in the backward pass."""

    @wraps(forward)
    def run(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if module.training and torch.is_grad_enabled():
            return checkpoint(forward, module, *args, use_reentrant=False, **kwargs)
        return forward(module, *args, **kwargs)

    return run


def _cheap_parts(block: nn.Module) -> list[nn.Module]:
    """What selective checkpointing computes again: norms and feed-forward network, all of a block but its attention.

    A Llama block of width H, with as many key heads as query heads and a feed-forward width of 2.75 H, keeps 22 H
    numbers a token without checkpointing, 9 H so, and H with all of it checkpointed (measured in fp32 on the CPU). What
    is computed again are the gate and up products, a seventh of the block's training FLOPs, and never the attention,
    whose share grows with the context.
    """
    parts = {name: part for name, part in block.named_children() if any(True for _ in part.parameters())}
    return [part for name, part in parts.items() if not name.endswith(("attn", "attention"))]


@contextmanager
def seeded_rng(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Random numbers from `seed` for a while; afterwards the generators go on as if nothing had been drawn."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reset devices that are not put back
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _until(tokens: list[int], ends: list[int]) -> list[int]:
    """The tokens before the first that ends a sequence."""
    return tokens[: next((i for i, token in enumerate(tokens) if token in ends), len(tokens))]


def _check_supported(model: PreTrainedModel, head: nn.Module, *, bias: bool) -> None:
    """Raise a `UserError` that names what stands in the way of packed training; may the head have a `bias`?"""
    config = model.config
    values = {name: getattr(config, name, None) for name in _NOT_A_PLAIN_HEAD}
    reasons = [f"{name}={value} changes the logits" for name, value in values.items() if value not in (None, 1.0)]
    if not model._supports_attention_backend:
        reasons.append("its attention is not behind transformers' attention interface")
    if model._is_stateful:
        reasons.append("it carries a state along the sequence, which would leak between documents")
    if other := set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES:
        reasons.append(f"layer types {sorted(other)} are not among {sorted(_LAYER_TYPES)}")
    if not isinstance(head, nn.Linear):
        reasons.append("its head is not a linear map")
    elif head.bias is not None and not bias:
        reasons.append("its head has a bias")
    if reasons:
        raise UserError(f"model: {type(model).__name__} cannot be trained packed: {'; '.join(reasons)}")
