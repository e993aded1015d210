"""How far a step is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

log = logging.getLogger("dsm")

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shards done of all, records, their rate, the time left."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.done, self.records = name, total, 0, 0
        self._began = self._told = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self.total and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.total, desc=self.name, unit="shard", dynamic_ncols=True)
        return self

    def add(self, records: int) -> None:
        """One more shard."""
        self.done += 1
        self.records += records
        now = time.monotonic()
        seconds = max(now - self._began, 1e-9)
        speed = f"{self.records:,} records, {self.records / seconds:,.0f} a second"
        if self._bar is not None:
            self._bar.set_postfix_str(speed, refresh=False)
            self._bar.update()
        elif now - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = now
            left = round((self.total - self.done) * seconds / self.done)
            shards = f"{self.done:,} of {self.total:,} shards"
            log.info(
                "%s: %s, %s, %d:%02d:%02d left", self.name, shards, speed, left // 3600, left // 60 % 60, left % 60
            )

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
