"""Stop strings against looking for them in the decoded text after every token."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dsm.rollout.engine import Request, Sampling
from dsm.rollout.stops import Detokenizer


def by_brute_force(detokenizer: Detokenizer, ids: list[int], stops: tuple[str, ...]) -> tuple[int, str, str] | None:
    """(tokens read, text before, stop string) at the first token after which the text holds one."""
    for end in range(1, len(ids) + 1):
        text = detokenizer.text(ids[:end])
        present = [stop for stop in stops if stop in text]
        if present:
            start = min(text.find(stop) for stop in present)
            return end, text[:start], max((stop for stop in present if text.find(stop) == start), key=len)
    return None


def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """Like SentencePiece's: blanks are part of words, the first one is dropped, bytes stand for what is unknown."""
    words = ["<unk>", "<s>", "▁", "▁a", "▁the", "the", "▁end", "end", "▁▁", "\n", ".", "a", "b", "e", "n", "d", "x"]
    pieces = [(word, -float(i)) for i, word in enumerate(words)] + [(f"<0x{i:02X}>", -50.0) for i in range(256)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<s>")


STOPS = [("the end",), (" ",), ("\n\n",), ("end", "the e"), ("。",), ("a ", "nd\n"), ("é", "數學"), ("  ",), ("e",)]


@pytest.mark.parametrize("stops", STOPS)
@pytest.mark.parametrize("kind", ["bytes", "metaspace"])
def test_no_token_that_completes_a_stop_is_missed(kind, stops, tokenizer):
    """Random tokens, mixed with spellings of the stop strings cut at every place."""
    detokenizer = Detokenizer(tokenizer if kind == "bytes" else metaspace_tokenizer(), 310)
    encode = detokenizer.tokenizer.backend_tokenizer.encode
    completing = detokenizer.completing(stops)
    rng, ended = random.Random(0), 0
    usual = [
        token for text in ("a the quick end.", "\n  é 數學。") for token in encode(text, add_special_tokens=False).ids
    ]
    for _ in range(150):
        spelled = []
        for stop in stops:
            cut = rng.randrange(len(stop) + 1)
            for part in (stop[:cut], stop[cut:]):
                spelled += encode(part, add_special_tokens=False).ids
        ids = [rng.choice([rng.choice(usual), rng.randrange(2, 290)]) for _ in range(rng.randrange(8))]
        place = rng.randrange(len(ids) + 1)
        ids[place:place] = spelled
        found = None
        for end in range(1, len(ids) + 1):  # as the engine does
            if (end == 1 or completing[ids[end - 1]]) and (hit := detokenizer.find(ids[:end], stops)):
                found = end, *hit
                break
        assert found == by_brute_force(detokenizer, ids, stops)
        ended += found is not None
    assert ended > 30


def test_few_tokens_complete_a_stop(tokenizer):
    """The look-up pays: of a code fence only what may hold its last letters, and bytes of unfinished characters."""
    completing = Detokenizer(tokenizer, 290).completing(("```output",))
    ordinary = [token for token in range(290) if tokenizer.decode([token]).isascii() and tokenizer.decode([token])]
    assert 1 <= sum(completing[token] for token in ordinary) < len(ordinary) / 8


def test_engine_stops(make_model, make_engine, prompts):
    """The tokens are those of the free run up to the one that completed the stop, the text is what came before it."""
    engine = make_engine(make_model())
    detokenizer = engine.detokenizer
    free = engine.generate([Request(prompt, Sampling(60, temperature=1.0, seed=2)) for prompt in prompts])
    rng = random.Random(0)
    requests, expected = [], []
    for prompt, [sample] in zip(prompts, free, strict=True):
        at = rng.randrange(len(sample.text) - 3)
        stops = (sample.text[at : at + 3], "\ufffd not there", "quick")
        requests.append(Request(prompt, Sampling(60, temperature=1.0, seed=2, stop=stops)))
        expected.append(by_brute_force(detokenizer, list(sample.token_ids), stops))
    for [sample], [before], hit in zip(engine.generate(requests), free, expected, strict=True):
        assert hit is not None
        end, text, stop = hit
        assert (sample.token_ids, sample.text) == (before.token_ids[:end], text)
        assert (sample.finish_reason, sample.stop) == ("stop", stop)
        assert sample.logprobs == before.logprobs[:end]
        assert stop in detokenizer.text(sample.token_ids)
        assert stop not in sample.text


def test_text_leaves_special_tokens_out(tokenizer):
    detokenizer = Detokenizer(tokenizer, 300)
    ids = tokenizer.encode("the end", add_special_tokens=False)
    assert detokenizer.text([tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, 299]) == "the end"
