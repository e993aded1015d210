"""What every schema shares: strict types, no unknown keys, immutable once checked."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(gt=0, lt=2**31)]
"""A number of things: at least one, and small enough for every counter on its way."""


HUB_PREFIX = "hub:"
"""What a path on the Hugging Face hub starts with; nothing else is ever downloaded."""


class Schema(BaseModel):
    """One group of settings: unknown keys, wrong types, NaN and infinity are errors; an integer passes for a float."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=())
