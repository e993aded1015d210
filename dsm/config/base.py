"""What every schema shares: strict types, no unknown keys, immutable once checked."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """One group of settings. Unknown keys and wrong types are errors; an integer passes where a float is asked for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())
