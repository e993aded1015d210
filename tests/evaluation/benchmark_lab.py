"""What the tests of benchmarks share: configurations as Hydra composes them, rows in files, tokenizers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dsm.config.benchmark import BenchmarkConfig
from dsm.config.listing import conf_dir, groups

BENCHMARKS = groups()["benchmark"]


@cache
def _composed(name: str) -> dict[str, Any]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose(f"benchmark/{name}")
    values = OmegaConf.to_container(composed)
    assert isinstance(values, dict)
    assert list(values) == ["benchmarks"]
    assert list(values["benchmarks"]) == [name]  # the package in the file's head is the file's name
    return dict(values["benchmarks"][name])


def config_of(name: str, **changes: Any) -> BenchmarkConfig:
    """The benchmark of conf/; changes go into its groups, as data={"path": ...} or few_shot={"shots": 0}."""
    values = _composed(name)
    for key, change in changes.items():
        values = values | {key: (values.get(key, {}) | change) if isinstance(change, dict) else change}
    return BenchmarkConfig.model_validate(values)


def write_rows(file: Path, *rows: Any) -> str:
    """JSON lines; a row that is text is written as it is."""
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(file)


def tokenizer_of(*texts: str, words: bool = True, chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE learnt from `texts`; `words=False` lets tokens reach over white space and punctuation."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "</s>"],
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = chat_template
    return tokenizer
