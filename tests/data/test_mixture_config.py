"""Settings of a mix: exact shares from what was written, changes, limits, and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from pydantic import ValidationError

from dsm.config.compose import compose_config
from dsm.config.mix import MixConfig, Segment
from dsm.config.pretrain import PretrainConfig
from dsm.errors import UserError
from tests.data.mixture_lab import mix_config

HERE = Path("stores")
DEEPSEEKMATH = "deepseekmath"


def test_shares_are_what_is_written_not_its_binary_neighbour():
    config = mix_config(HERE, {"a": 0.1, "b": 0.2, "c": 0.7})
    assert config.segments() == [Segment(0, (1, 2, 7))]
    assert mix_config(HERE, {"a": 56, "b": 4, "c": 10, "d": 20, "e": 10}).segments()[0].weights == (28, 2, 5, 10, 5)


def test_changes_count_from_the_first_sequence_at_or_after_their_token():
    changes = [{"from_tokens": 1601, "weights": {"b": 3}}, {"from_tokens": 3200, "weights": {"a": 0}}]
    config = mix_config(HERE, {"a": 1, "b": 1}, schedule=changes)
    assert config.segments() == [Segment(0, (1, 1)), Segment(101, (1, 3)), Segment(200, (0, 1))]
    assert config.expected(300, {}) == {"a": 50 + Fraction(1, 2) + Fraction(99, 4), "b": 300 - Fraction(301, 4)}


def test_a_limit_is_refused_before_the_run_or_its_share_goes_to_the_others():
    weights = {"a": {"weight": 1, "max_epochs": 1.5}, "b": 1, "c": 2}
    rows = {"a": 100, "b": 10, "c": None}
    with pytest.raises(UserError, match=r"mix.sources.a.max_epochs=1.5: the run would read it 2.500 times"):
        mix_config(HERE, weights).expected(1000, rows)
    assert mix_config(HERE, weights).expected(600, rows)["a"] == 150
    shared = mix_config(HERE, weights, exhausted="redistribute")
    assert shared.segments(rows) == [Segment(0, (1, 1, 2)), Segment(600, (0, 1, 2))]
    assert shared.expected(1200, rows) == {"a": 150, "b": 350, "c": 700}
    assert shared.segments({}) == [Segment(0, (1, 1, 2))]


def test_limits_and_changes_together():
    changes = [{"from_tokens": 160 * 16, "weights": {"a": 3}}, {"from_tokens": 2000 * 16, "weights": {"a": 1, "b": 0}}]
    limited = {"a": {"weight": 1, "max_epochs": 1}, "b": {"weight": 1, "max_epochs": 1}, "c": 1}
    config = mix_config(HERE, limited, schedule=changes, exhausted="redistribute")
    segments = config.segments({"a": 140, "b": 300, "c": 10})
    # a: 160/3 by place 160, then 3 in 5 until its 140 at 304 2/3; b then has 160/3 + 144/5, and half from there on.
    assert [segment.weights for segment in segments] == [(1, 1, 1), (3, 1, 1), (0, 1, 1), (0, 0, 1)]
    assert [segment.first for segment in segments][:3] == [0, 160, 304]
    assert config.expected(5000, {"a": 140, "b": 300, "c": 10})["b"] <= 300


def test_nothing_left_to_read():
    only = mix_config(HERE, {"a": {"weight": 1, "max_epochs": 2}}, exhausted="redistribute")
    assert only.segments({"a": 10}, 20)[0] == Segment(0, (1,))
    with pytest.raises(UserError, match="all sources are read up after 20 sequences"):
        only.segments({"a": 10}, 21)


@pytest.mark.parametrize(
    ("weights", "settings", "message"),
    [
        ({}, {}, "sources={}: name at least one store"),
        ({"a": 0}, {}, r"sources.\*.weight: all are 0"),
        ({"a": 1}, {"root": None}, "sources.a.path=null: must be given, or mix.root"),
        ({"a": 1}, {"schedule": [{"from_tokens": 5, "weights": {"b": 1}}]}, "weights.b: not one of the sources"),
        ({"a": 1}, {"schedule": [{"from_tokens": 5, "weights": {"a": 0}}]}, "schedule.0.weights: all are 0"),
        (
            {"a": 1},
            {"schedule": [{"from_tokens": 9, "weights": {"a": 1}}] * 2},
            r"must be more than the one before \(9\)",
        ),
        ({"a": 0.1234567, "b": 1}, {}, r"common denominator 11,234,567.*rounded they are {a: 1099, b: 8901}"),
        ({"a": -1.0}, {}, "greater than or equal to 0"),
    ],
)
def test_what_makes_no_mix_is_refused(weights, settings, message):
    with pytest.raises(ValidationError, match=message):
        mix_config(HERE, weights, **settings)


def test_sizes_come_from_the_store_and_else_from_the_settings(tmp_path):
    config = mix_config(tmp_path, {"a": {"weight": 1, "tokens": 5}, "b": {"weight": 1, "path": str(tmp_path / "x")}})
    assert (config.store("a"), config.size("a"), config.size("b")) == (f"{tmp_path}/a", 5, None)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "manifest.json").write_text(json.dumps({"tokens": 7}))
    assert config.size("b") == 7


def experiment(name: str, *more: str) -> tuple[PretrainConfig, MixConfig, dict[str, float]]:
    """A preset, and how many billion tokens it reads of each source."""
    config = compose_config([f"experiment={DEEPSEEKMATH}/{name}", *more])
    assert isinstance(config, PretrainConfig)
    tokens = {
        source: float(share * config.context / 10**9)
        for source, share in config.mix.expected(config.sequences, {}).items()
    }
    return config, config.mix, {source: round(billions, 3) for source, billions in tokens.items()}


def test_base_7b_is_the_papers():
    """Section 2.3: 280/20/50/100/50B tokens, 50,000 steps, 2.33 passes over the corpus."""
    config, mix, tokens = experiment("base_7b")
    assert tokens == {"deepseekmath": 280, "algebraic_stack": 20, "arxiv": 50, "github": 100, "common_crawl": 50}
    assert (config.steps, config.optim.lr, config.optim.betas, config.optim.weight_decay) == (
        50_000,
        4.2e-4,
        [0.9, 0.95],
        0.1,
    )
    assert (config.scheduler.warmup_steps, config.context) == (2000, 4096)
    rows = {name: size // mix.context if (size := mix.size(name)) else None for name in mix.sources}
    shares = mix.expected(config.sequences, rows)
    passes = {name: round(float(shares[name] / rows[name]), 2) for name in rows if rows[name]}
    assert passes == {"deepseekmath": 2.33, "algebraic_stack": 1.94, "arxiv": 1.79}


@pytest.mark.parametrize(
    ("name", "steps", "rate", "tokens"),
    [
        ("corpus_1_3b/deepseekmath", 37_500, 5.3e-4, {"deepseekmath": 150}),
        ("corpus_1_3b/mathpile", 37_500, 5.3e-4, {"mathpile": 150}),
        ("corpus_1_3b/openwebmath", 37_500, 5.3e-4, {"openwebmath": 150}),
        (
            "corpus_1_3b/proof_pile_2",
            37_500,
            5.3e-4,
            {"arxiv": 42.857, "openwebmath": 85.714, "algebraic_stack": 21.429},
        ),
        ("code_first/two_stage_code", 100_000, 5.3e-4, {"github": 400}),
        ("code_first/two_stage_general", 100_000, 5.3e-4, {"general": 400}),
        ("code_first/two_stage_math", 37_500, 5.3e-4, {"deepseekmath_2": 150}),
        ("code_first/one_stage_math", 37_500, 5.3e-4, {"deepseekmath_2": 150}),
        ("code_first/one_stage_mixed", 137_500, 5.3e-4, {"github": 400, "deepseekmath_2": 150}),
        ("arxiv_only/mathpile_1_3b", 37_500, 5.3e-4, {"mathpile": 150}),
        ("arxiv_only/redpajama_1_3b", 37_500, 5.3e-4, {"arxiv": 150}),
        ("arxiv_only/mathpile_7b", 4_000, 4.2e-4, {"mathpile": 40}),
        ("arxiv_only/redpajama_7b", 4_000, 4.2e-4, {"arxiv": 40}),
    ],
)
def test_the_papers_trials(name, steps, rate, tokens):
    config, _, read = experiment(name, *(["model.path=STAGE_ONE"] if name.endswith("two_stage_math") else []))
    assert (config.steps, config.optim.lr, config.trainer.tokens_per_step) == (
        steps,
        rate,
        10_000_000 if rate < 5e-4 else 4_000_000,
    )
    assert read == tokens
    assert config.context == 4096
