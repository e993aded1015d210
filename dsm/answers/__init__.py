"""Answers: found in what a model wrote (`extract`), compared with a reference (`GraderPool`), counted (classes).

Text of a model is never evaluated: it is parsed by a parser of our own into exact numbers and expression trees.
"""

from dsm.answers.classes import equivalence_classes
from dsm.answers.extract import EXTRACTORS, Extraction, extract
from dsm.answers.pool import GraderPool
from dsm.answers.verdict import Outcome, Verdict

__all__ = ["EXTRACTORS", "Extraction", "GraderPool", "Outcome", "Verdict", "equivalence_classes", "extract"]
