"""Text of web pages with the mathematics intact."""

from __future__ import annotations

from dsm.corpus.extract.language import language_of
from dsm.corpus.extract.page import VERSION, Extracted, extract

__all__ = ["VERSION", "Extracted", "extract", "language_of"]
