"""Causal attention within documents, for every model of `transformers`: one function, registered as `dsm_varlen`.

The wrapper passes the layout of the packed documents (`varlen`) and the setting `model.attention` through the model's
forward, and both arrive here with the queries, keys and values of each layer. On CUDA in bf16 or fp16 a varlen kernel
does the work: flash-attn 4, 3 or 2, else PyTorch's own. Everywhere else an exact path runs causal SDPA on the slice of
each document, and once for neighbours that are alike. Its rivals cost more on a CPU (4,096 tokens, documents of 60 to
1,500, forward and backward): blocks of documents of similar length up to 1.9 times as much, one right-padded block up
to 3.5, the masked square 6 to 20; the slices lose only where documents are shorter than some 15 tokens, and there by
about a quarter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from dsm.errors import UserError
from dsm.ops.varlen import Varlen

NAME = "dsm_varlen"
BACKENDS = ("flash_attn_4", "flash_attn_3", "flash_attn_2", "torch_varlen", "sdpa")  # as `auto` prefers them
HALF = (torch.bfloat16, torch.float16)

# Where each kernel lives, and the lowest CUDA capability it is built for.
_KERNELS: dict[str, tuple[str, str, tuple[int, int]]] = {
    "flash_attn_4": ("flash_attn.cute", "flash_attn_varlen_func", (9, 0)),
    "flash_attn_3": ("flash_attn_interface", "flash_attn_varlen_func", (9, 0)),
    "flash_attn_2": ("flash_attn", "flash_attn_varlen_func", (8, 0)),
    "torch_varlen": ("torch.nn.attention.varlen", "varlen_attn", (8, 0)),
}

# (q, k, v of shape (T, heads, head_dim), varlen, scaling, sliding window, dropout) -> (T, heads, head_dim)
Kernel = Callable[[Tensor, Tensor, Tensor, Varlen, float | None, int | None, float], Tensor]


@cache
def why_unavailable(backend: str) -> str | None:
    """Why this back end cannot run in this process; None if it can."""
    if backend == "sdpa":
        return None
    module, function, capability = _KERNELS[backend]
    if not torch.cuda.is_available():
        return "needs CUDA"
    if (found := torch.cuda.get_device_capability()) < capability:
        return f"needs CUDA capability {capability[0]}.{capability[1]}, this device has {found[0]}.{found[1]}"
    try:
        getattr(import_module(module), function)
    except Exception as error:  # a binary built for another torch fails to import in many ways
        return f"not importable here ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else module})"
    return None


def available_backends() -> dict[str, str | None]:
    """Each back end and None, or the reason why it cannot run here: a table for people."""
    return {backend: why_unavailable(backend) for backend in BACKENDS}


def check_backend(choice: str) -> None:
    """Refuse, as a `UserError`, an explicit choice of `model.attention` that this process cannot honour."""
    if choice != "auto" and (reason := why_unavailable(choice)):
        available = [backend for backend in BACKENDS if why_unavailable(backend) is None]
        raise UserError(f"model.attention={choice}: {reason}; available: {', '.join(['auto', *available])}")


@cache
def _resolve(choice: str, on_cuda: bool, dtype: torch.dtype) -> Kernel:
    """The kernel for tensors of this kind."""
    if not on_cuda or dtype not in HALF:
        if choice not in ("auto", "sdpa"):
            where = "CUDA" if on_cuda else "CPU"
            raise UserError(
                f"model.attention={choice}: computes in bf16 or fp16 on CUDA, got {dtype} on {where};"
                " use bf16 precision, or model.attention=auto or sdpa"
            )
        return _per_document
    if choice == "auto":
        choice = next(backend for backend in BACKENDS if why_unavailable(backend) is None)
    if choice == "sdpa":
        return _per_document
    module, function, _ = _KERNELS[choice]
    adapt = _torch_varlen if choice == "torch_varlen" else _flash
    kernel = adapt(choice, getattr(import_module(module), function))

    @wraps(kernel)
    def with_prefixes(q: Tensor, k: Tensor, v: Tensor, varlen: Varlen, *options: Any) -> Tensor:
        fits = not varlen.prefixes or _ends_with_the_keys(kernel, q.device, q.dtype)
        return (kernel if fits else _per_document)(q, k, v, varlen, *options)

    return with_prefixes


@cache
def _ends_with_the_keys(kernel: Kernel, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a document's last query attends to all its keys, where there are more of these: tried on three tokens.

    All documented kernels do; one that lets the first query attend to the first key alone would be wrong in silence.
    """
    varlen = Varlen.from_lengths([2, 1], device, prefixes=[(0, 0), (0, 1)])
    query, key, value = (torch.zeros(3, heads, 64, dtype=dtype, device=device) for heads in (2, 1, 1))
    value[2] = 2.0  # the last token sees the first one's 0 and its own 2
    with torch.no_grad():
        seen = kernel(query, key, value, varlen, None, None, 0.0)[2]
    return bool((seen.float() - 1.0).abs().max() < 0.1)


def _per_document(
    q: Tensor, k: Tensor, v: Tensor, varlen: Varlen, scaling: float | None, window: int | None, dropout: float
) -> Tensor:
    """The exact path. A document's result depends on its own tokens only, and on those of its prefix.

    Neighbours of one length and with one prefix share a call of the kernel, which keeps them apart.
    """
    dtype = q.dtype
    if not q.is_cuda:  # on CPUs without bf16 instructions the kernel takes 2.5 to 6 times as long in bf16
        q, k, v = q.float(), k.float(), v.float()
    gqa = q.shape[1] != k.shape[1]
    prefixes = varlen.prefixes or ((0, 0),) * len(varlen.lengths)
    runs = [(*alike, len(list(run))) for alike, run in groupby(zip(varlen.lengths, prefixes, strict=True))]
    beginnings = {
        (first, count): (k[first : first + count], v[first : first + count]) for first, count in set(prefixes)
    }
    masks: dict[tuple[int, int], Tensor] = {}
    outputs = []
    with torch.autocast(q.device.type, enabled=False):
        parts = (x.split([length * alike for length, _, alike in runs]) for x in (q, k, v))
        for (length, prefix, alike), *own in zip(runs, *parts, strict=True):
            query, key, value = (x.unflatten(0, (alike, length)).transpose(1, 2) for x in own)
            if prefix[1]:
                before = (x.transpose(0, 1).expand(alike, -1, -1, -1) for x in beginnings[prefix])
                key, value = (torch.cat(both, dim=2) for both in zip(before, (key, value), strict=True))
            shape = (length, key.shape[2])
            plain = not prefix[1] and (window is None or length <= window)
            if not plain and shape not in masks:
                masks[shape] = _mask(*shape, window, q.device)
            output = F.scaled_dot_product_attention(
                query, key, value, None if plain else masks[shape], dropout, plain, scale=scaling, enable_gqa=gqa
            )
            outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).to(dtype)


def _mask(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """(queries, keys) bool: the last key is the last query's own; each attends to it and those before, or `window`."""
    mask = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return mask if window is None else mask.triu(keys - queries + 1 - window)


def _flash(choice: str, function: Callable[..., Any]) -> Kernel:
    """The flash-attn packages: one function name, three conventions."""
    accepted = inspect.signature(function).parameters

    def kernel(
        q: Tensor, k: Tensor, v: Tensor, varlen: Varlen, scaling: float | None, window: int | None, dropout: float
    ) -> Tensor:
        options: dict[str, Any] = {"softmax_scale": scaling, "causal": True}
        for side, layout in (("q", varlen), ("k", varlen.keys or varlen)):
            options[f"cu_seqlens_{side}"] = layout.cu_seqlens
            if f"max_seqlen_{side}" in accepted:  # early flash-attn 4 infers them
                options[f"max_seqlen_{side}"] = layout.max_seqlen
        if window is not None:
            options["window_size"] = (window - 1, 0)  # keys to the left, beside the token itself
        if dropout:
            _refuse_dropout(choice, dropout, "dropout_p" in accepted)
            options["dropout_p"] = dropout
        output = function(q, *_with_prefixes(k, v, varlen), **options)
        return output[0] if isinstance(output, tuple) else output  # versions 3 and 4 may add the log-sum-exp

    return kernel


def _torch_varlen(choice: str, function: Callable[..., Any]) -> Kernel:
    """`torch.nn.attention.varlen`, whose keywords still change from release to release."""
    accepted = inspect.signature(function).parameters

    def kernel(
        q: Tensor, k: Tensor, v: Tensor, varlen: Varlen, scaling: float | None, window: int | None, dropout: float
    ) -> Tensor:
        _refuse_dropout(choice, dropout, False)
        options: dict[str, Any] = {}
        if q.shape[1] != k.shape[1]:
            if "enable_gqa" in accepted:
                options["enable_gqa"] = True
            else:
                k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        if "window_size" in accepted:
            options["window_size"] = (-1 if window is None else window - 1, 0)
        elif window is None:
            options["is_causal"] = True
        else:
            raise UserError(f"model.attention={choice}: no sliding windows before torch 2.11; use model.attention=sdpa")
        if "scale" in accepted:
            options["scale"] = scaling
        elif scaling is not None:
            q = q * (scaling * q.shape[-1] ** 0.5)  # the kernel divides by the root of head_dim
        k, v = _with_prefixes(k, v, varlen)
        keys = varlen.keys or varlen
        return function(q, k, v, varlen.cu_seqlens, keys.cu_seqlens, varlen.max_seqlen, keys.max_seqlen, **options)

    return kernel


def _with_prefixes(k: Tensor, v: Tensor, varlen: Varlen) -> tuple[Tensor, Tensor]:
    """Keys and values of documents with their prefixes: a kernel's causal mask ends with a document's last of both."""
    if (keys := varlen.keys) is None:
        return k, v
    return k.index_select(0, keys.index), v.index_select(0, keys.index)


def _refuse_dropout(choice: str, dropout: float, supported: bool) -> None:
    if dropout and not supported:
        raise UserError(
            f"attention_dropout={dropout}: {choice} has no dropout; use 0, or model.attention=flash_attn_2 or sdpa"
        )


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    varlen: Varlen,
    attention_backend: str,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """One layer's attention, as `transformers` calls it: (1, heads, T, head_dim) -> (1, T, heads, head_dim)."""
    unsupported = {
        "softcap (capped attention scores)": softcap is not None,
        "s_aux (attention sinks)": s_aux is not None,
        "position_bias": position_bias is not None,
        "is_causal=False": is_causal is False or not getattr(module, "is_causal", True),
    }
    if refused := ", ".join(name for name, present in unsupported.items() if present):
        raise UserError(f"model: {type(module).__name__} uses {refused}, which packed attention does not support")
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if torch.is_autocast_enabled(q.device.type):  # rotary embeddings in fp32 leave queries and keys wider than values
        q, k, v = (x.to(torch.get_autocast_dtype(q.device.type)) for x in (q, k, v))
    kernel = _resolve(attention_backend, q.is_cuda, q.dtype)
    return kernel(q, k, v, varlen, scaling, sliding_window, dropout)[None], None


# Compilers step over the function: its kernels gain nothing, and tracing would compile anew for every layout.
# No mask function is registered beside it, which tells transformers to build no mask: the layout says it all.
AttentionInterface.register(NAME, torch.compiler.disable(_attention))
