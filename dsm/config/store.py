"""What a user may say about token stores: which texts, which tokenizer, what is held out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from dsm.config.base import HUB_PREFIX, Count, Schema
from dsm.config.run import RunConfig

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class LocalSourceConfig(Schema):
    """Files of texts on this machine."""

    path: str = Field(
        min_length=1,
        description="a .jsonl, .jsonl.gz, .jsonl.zst, .json, .parquet or text file, or a folder of them",
    )
    split: str | None = Field(default=None, description="in a folder, only files whose path has this word")
    fields: list[str] | None = Field(default=None, min_length=1, description="in place of data.fields")

    @model_validator(mode="after")
    def _is_local(self) -> Self:
        if self.path.startswith(HUB_PREFIX):
            raise ValueError(f"path={self.path}: must be local; 'hf download' fetches the files of a repository")
        return self


class DocumentSourceConfig(LocalSourceConfig):
    """Texts that become one store."""

    separator: str | None = Field(default=None, description="in place of data.separator")


def check_folder_names(sources: Iterable[str]) -> None:
    """Each source makes a folder of its name.

    Raises:
        ValueError: there is none, or one that cannot be a folder's.
    """
    names = list(sources)
    if not names:
        raise ValueError("sources={}: name at least one source, as data.sources.NAME.path=FILE")
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"sources.{name}: names a folder; allowed are letters, digits, dot, hyphen, underscore")


class DocumentDataConfig(Schema):
    """Documents to pre-train on."""

    sources: dict[str, DocumentSourceConfig]
    fields: list[str] = Field(min_length=1)
    separator: str
    text_suffixes: list[str] = Field(description="files that end so are texts, not rows")
    text_unit: Literal["file", "line"]

    @model_validator(mode="after")
    def _sources_can_be_folders(self) -> DocumentDataConfig:
        check_folder_names(self.sources)
        for suffix in self.text_suffixes:
            if not suffix.startswith(".") or suffix.endswith(
                (".jsonl", ".json", ".parquet", ".jsonl.gz", ".jsonl.zst")
            ):
                raise ValueError(
                    f"text_suffixes: {suffix} must start with a dot and be no suffix of rows, as .txt or .py"
                )
        return self


class HeldOutConfig(Schema):
    """Documents kept for validation."""

    fraction: float = Field(ge=0, lt=1)
    max_documents: Count


class StoreConfig(Schema):
    """How documents become tokens on the disk."""

    eos: bool
    bos: bool
    held_out: HeldOutConfig
    shard_tokens: int = Field(gt=0, lt=2**40)
    workers: Count | None

    @model_validator(mode="after")
    def _documents_end(self) -> StoreConfig:
        if not self.eos and not self.bos:
            raise ValueError("eos=false: with bos=false nothing would part documents; allowed where bos=true")
        return self


class TokenizerFolderConfig(Schema):
    """A tokenizer that is there already."""

    path: str = Field(min_length=1)


class TokenizeConfig(RunConfig):
    """`stage=tokenize`: documents into token stores."""

    stage: Literal["tokenize"]
    data: DocumentDataConfig
    tokenizer: TokenizerFolderConfig
    store: StoreConfig

    @property
    def tokenizer_path(self) -> str:
        """The tokenizer's folder, or hub:org/name."""
        return self.tokenizer.path
