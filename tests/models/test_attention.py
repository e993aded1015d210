"""Packed attention is what each document would have had alone, and nothing crosses a border."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from dsm.errors import UserError
from dsm.models import attention
from dsm.models.wrapper import CausalLM
from dsm.ops.varlen import Varlen

MakeNetwork = Callable[..., PreTrainedModel]
LENGTHS = (7, 1, 12, 3, 1)


def random_ids(total: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 96, (total,), generator=torch.Generator().manual_seed(seed))


def test_varlen_layout() -> None:
    varlen = Varlen.from_lengths([3, 1, 2])
    assert varlen.cu_seqlens.tolist() == [0, 3, 4, 6]
    assert varlen.cu_seqlens.dtype == torch.int32
    assert (varlen.max_seqlen, varlen.total) == (3, 6)
    assert varlen.position_ids().tolist() == [0, 1, 2, 0, 0, 1]
    assert varlen.position_ids().dtype == torch.int64
    assert varlen.mean_attended_length == (1 + 2 + 3 + 1 + 1 + 2) / 6
    for wrong in ([], [3, 0]):
        with pytest.raises(ValueError, match="at least one token"):
            Varlen.from_lengths(wrong)


def test_packed_equals_separate_forwards(family: str, make_network: MakeNetwork) -> None:
    """Values and gradients, against transformers' own SDPA on one unpadded document at a time."""
    network = make_network(family)
    packed = CausalLM(copy.deepcopy(network))
    varlen, input_ids = Varlen.from_lengths(LENGTHS), random_ids(sum(LENGTHS))
    cotangent = torch.randn(sum(LENGTHS), 96, generator=torch.Generator().manual_seed(2))

    logits = packed.logits(input_ids, varlen)
    (logits * cotangent).sum().backward()
    expected = torch.cat([network(document[None]).logits[0] for document in input_ids.split(LENGTHS)])
    (expected * cotangent).sum().backward()

    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    for (name, ours), theirs in zip(packed.model.named_parameters(), network.parameters(), strict=True):
        assert ours.grad is not None
        scale = theirs.grad.abs().max()
        torch.testing.assert_close(ours.grad / scale, theirs.grad / scale, rtol=0, atol=1e-5, msg=name)


def test_layout_of_shared_prompts() -> None:
    """Documents abcd, ab+ef, xy, ab+g: the second and the last begin with what the first one begins with."""
    varlen = Varlen.from_lengths([4, 2, 2, 1], prefixes=[(0, 0), (0, 2), (0, 0), (0, 2)])
    assert varlen.position_ids().tolist() == [0, 1, 2, 3, 2, 3, 0, 1, 2]
    assert varlen.mean_attended_length == (1 + 2 + 3 + 4 + 3 + 4 + 1 + 2 + 3) / 9
    assert varlen.keys is not None
    assert varlen.keys.index.tolist() == [0, 1, 2, 3, 0, 1, 4, 5, 6, 7, 0, 1, 8]
    assert varlen.keys.cu_seqlens.tolist() == [0, 4, 8, 10, 13]
    assert (varlen.keys.lengths, varlen.keys.max_seqlen) == ((4, 4, 2, 3), 4)
    assert Varlen.from_lengths([4, 2], prefixes=[(0, 0), (0, 0)]).keys is None
    with pytest.raises(ValueError, match="1 prefixes for 2 documents"):
        Varlen.from_lengths([4, 2], prefixes=[(0, 0)])


def test_a_shared_prompt_is_as_good_as_a_copy(family: str, make_network: MakeNetwork) -> None:
    """Values and gradients of documents that begin alike, with the beginning once and with as many copies."""
    model, ids = CausalLM(make_network(family)), random_ids(20)
    first, second, third = ids[:9], torch.cat([ids[:5], ids[9:13]]), torch.cat([ids[:5], ids[13:]])
    copies = Varlen.from_lengths([9, 9, 12])
    shared = Varlen.from_lengths([9, 4, 7], prefixes=[(0, 0), (0, 5), (0, 5)])
    own = torch.cat([torch.arange(9), torch.arange(14, 18), torch.arange(23, 30)])
    cotangent = torch.randn(20, 96, generator=torch.Generator().manual_seed(2))
    found = []
    for tokens, varlen, rows in ((torch.cat([first, second, third]), copies, own), (ids, shared, torch.arange(20))):
        model.zero_grad()
        logits = model.logits(tokens, varlen)[rows]
        (logits * cotangent).sum().backward()
        found.append((logits, [weight.grad for weight in model.parameters()]))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one / one.abs().max(), other / one.abs().max(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bf16", [False, True])
def test_no_bit_crosses_a_border(family: str, bf16: bool, make_network: MakeNetwork) -> None:
    model, varlen = CausalLM(make_network(family)), Varlen.from_lengths(LENGTHS)
    before = random_ids(sum(LENGTHS))
    starts = varlen.cu_seqlens.tolist()
    context = torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()
    with torch.no_grad(), context:
        old = model(before, varlen), model.logits(before, varlen)
        for changed in range(len(LENGTHS)):
            inside = slice(starts[changed], starts[changed + 1])
            after = before.clone()
            after[inside] = (after[inside] + 1) % 96
            new = model(after, varlen), model.logits(after, varlen)
            outside = torch.ones(sum(LENGTHS), dtype=torch.bool)
            outside[inside] = False
            for was, now in zip(old, new, strict=True):
                assert torch.equal(was[outside], now[outside])
                assert (was[inside] != now[inside]).any(-1).all()


@pytest.mark.parametrize("length", [1, 2, 3, 5, 6, 17, 64])
def test_one_document_of_any_length(length: int, make_network: MakeNetwork) -> None:
    network = make_network("mistral")
    expected = network(random_ids(length)[None]).logits[0]
    logits = CausalLM(network).logits(random_ids(length), Varlen.from_lengths([length]))
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_bf16_stays_near_fp32(make_network: MakeNetwork) -> None:
    model, varlen, input_ids = CausalLM(make_network("llama")), Varlen.from_lengths(LENGTHS), random_ids(sum(LENGTHS))
    exact = model(input_ids, varlen)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(input_ids, varlen)
    assert 0 < (exact - rough).norm() / exact.norm() < 0.03


def test_scaling_and_dropout_arrive() -> None:
    q, k, v = torch.randn(3, 1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    varlen = Varlen.from_lengths([6])

    def attend(**options: Any) -> Tensor:
        return attention._attention(nn.Module(), q, k, v, None, varlen=varlen, attention_backend="auto", **options)[0]

    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.7).transpose(1, 2)
    torch.testing.assert_close(attend(scaling=0.7), expected)
    torch.manual_seed(0)
    dropped = torch.stack([attend(dropout=0.5) for _ in range(2000)])
    assert not torch.equal(dropped[0], dropped[1])
    torch.testing.assert_close(dropped.mean(0), attend(), atol=0.25, rtol=0)  # unbiased
    for wrong, named in (({"softcap": 30.0}, "softcap"), ({"s_aux": q}, "sinks"), ({"is_causal": False}, "is_causal")):
        with pytest.raises(UserError, match=named):
            attend(**wrong)


def test_an_unavailable_backend_is_one_line(make_network: MakeNetwork) -> None:
    if torch.cuda.is_available():
        pytest.skip("speaks of machines without CUDA")
    for backend in ("flash_attn_4", "flash_attn_3", "flash_attn_2", "torch_varlen"):
        with pytest.raises(UserError, match=rf"^model\.attention={backend}: needs CUDA; available: auto, sdpa$"):
            CausalLM(make_network("llama"), attention=backend)
    assert attention.available_backends()["sdpa"] is None


class TestKernelConventions:
    """The adapters on a machine without the kernels: stand-ins with the real signatures, computed by the exact path."""

    @pytest.fixture(autouse=True)
    def _a_hopper(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
        self.modules: dict[str, ModuleType] = {}

        def load(name: str) -> ModuleType:
            if name not in self.modules:
                raise ImportError(f"No module named '{name}'")
            return self.modules[name]

        monkeypatch.setattr(attention, "import_module", load)
        attention.why_unavailable.cache_clear()
        attention._resolve.cache_clear()
        yield
        attention.why_unavailable.cache_clear()
        attention._resolve.cache_clear()

    def provide(self, backend: str, function: Any) -> None:
        path, name, _ = attention._KERNELS[backend]
        self.modules[path] = ModuleType(path)
        setattr(self.modules[path], name, function)

    def run(self, backend: str, **options: Any) -> tuple[Tensor, Tensor]:
        q, k, v = (torch.randn(9, h, 8, generator=torch.Generator().manual_seed(h)) for h in (4, 2, 2))
        varlen = Varlen.from_lengths([4, 5], prefixes=options.get("prefixes", ()))
        arguments = (q, k, v, varlen, options.get("scaling"), options.get("window"))
        kernel = attention._resolve(backend, True, torch.bfloat16)
        return kernel(*arguments, options.get("dropout", 0.0)), attention._per_document(*arguments, 0.0)

    @staticmethod
    def exact(
        q: Tensor, k: Tensor, v: Tensor, queries: Tensor, keys: Tensor, scale: float | None, window: tuple
    ) -> Tensor:
        """Every document's last query stands at its last key, as in the kernels."""
        assert window[1] == 0 or window == (-1, -1) or window == (None, None)
        width = None if window[0] in (-1, None) else window[0] + 1
        outputs = []
        parts = q.split(queries.diff().tolist()), *(x.split(keys.diff().tolist()) for x in (k, v))
        for query, *both in zip(*parts, strict=True):
            mask = attention._mask(len(query), len(both[0]), width, q.device)
            key, value = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1).transpose(0, 1) for x in both)
            output = F.scaled_dot_product_attention(query.transpose(0, 1), key, value, mask, scale=scale)
            outputs.append(output.transpose(0, 1))
        return torch.cat(outputs)

    def flash_2(
        self, q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None,
        causal=False, window_size=(-1, -1), softcap=0.0,
    ):  # fmt: skip
        assert causal
        assert (max_seqlen_q, max_seqlen_k) == tuple(int(x.diff().max()) for x in (cu_seqlens_q, cu_seqlens_k))
        return self.exact(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale, window_size)

    def flash_3(
        self, q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale=None, causal=False,
        window_size=(-1, -1),
    ):  # fmt: skip
        assert causal
        return self.exact(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale, window_size), torch.zeros(1)

    def flash_4(
        self, q, k, v, cu_seqlens_q=None, cu_seqlens_k=None, softmax_scale=None, causal=False, window_size=(None, None)
    ):
        assert causal
        return self.exact(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale, window_size), None

    def torch_2_13(
        self, query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False
    ):
        assert window_size[1] == 0, "not causal"
        assert enable_gqa
        return self.exact(query, key, value, cu_seq_q, cu_seq_k, scale, window_size)

    def torch_2_10(self, query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
        assert is_causal
        assert query.shape[1] == key.shape[1] == value.shape[1]
        return self.exact(query, key, value, cu_seq_q, cu_seq_k, None, (-1, -1))

    @pytest.mark.parametrize(
        "options",
        [{}, {"scaling": 0.3}, {"window": 3}, {"window": 1, "scaling": 0.3}, {"prefixes": [(0, 0), (0, 3)]}],
    )
    @pytest.mark.parametrize("backend", ["flash_attn_2", "flash_attn_3", "flash_attn_4", "torch_varlen"])
    def test_each_kernel_gets_what_it_expects(self, backend: str, options: dict[str, Any]) -> None:
        fakes = {"flash_attn_2": self.flash_2, "flash_attn_3": self.flash_3, "flash_attn_4": self.flash_4}
        self.provide(backend, fakes.get(backend, self.torch_2_13))
        output, expected = self.run(backend, **options)
        torch.testing.assert_close(output, expected)

    def test_a_kernel_that_begins_with_the_keys_gets_no_prefixes(self) -> None:
        """Its first query would see the first key alone."""

        def top_left(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale=None, causal=False):
            ends = cu_seqlens_k[:-1] + cu_seqlens_q.diff()
            keys = torch.cat([torch.arange(int(a), int(b)) for a, b in zip(cu_seqlens_k, ends, strict=False)])
            return self.exact(q, k[keys], v[keys], cu_seqlens_q, cu_seqlens_q, softmax_scale, (-1, -1))

        self.provide("flash_attn_3", top_left)
        for prefixes in ((), [(0, 0), (0, 3)]):
            output, expected = self.run("flash_attn_3", prefixes=prefixes)
            torch.testing.assert_close(output, expected)

    def test_an_older_torch(self) -> None:
        self.provide("torch_varlen", self.torch_2_10)
        for options in ({}, {"scaling": 0.3}):
            output, expected = self.run("torch_varlen", **options)
            torch.testing.assert_close(output, expected)
        with pytest.raises(UserError, match="sliding"):
            self.run("torch_varlen", window=3)

    def test_auto_takes_the_first_that_is_there(self) -> None:
        assert attention._resolve("auto", True, torch.bfloat16) is attention._per_document
        attention._resolve.cache_clear()
        attention.why_unavailable.cache_clear()
        self.provide("flash_attn_2", self.flash_2)
        self.provide("flash_attn_3", self.flash_3)
        assert attention._resolve("auto", True, torch.bfloat16).__qualname__.startswith("_flash")
        assert [name for name, reason in attention.available_backends().items() if reason is None] == [
            "flash_attn_3", "flash_attn_2", "sdpa",
        ]  # fmt: skip
        assert attention._resolve("auto", True, torch.float32) is attention._per_document
        with pytest.raises(UserError, match=r"flash_attn_4: not importable here .*available: auto, flash_attn_3"):
            attention.check_backend("flash_attn_4")

    def test_what_a_kernel_cannot_do_is_refused(self) -> None:
        self.provide("flash_attn_3", self.flash_3)
        with pytest.raises(UserError, match=r"attention_dropout=0\.1: flash_attn_3 has no dropout"):
            self.run("flash_attn_3", dropout=0.1)
        with pytest.raises(UserError, match="computes in bf16 or fp16 on CUDA"):
            attention._resolve("flash_attn_3", True, torch.float32)
