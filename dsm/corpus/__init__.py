"""Mining a corpus: read, extract, deduplicate, classify, cut, discover domains, annotate, decontaminate, again.

Everything is a step that adds columns to shards (dsm/corpus/steps.py); whatever runs in the worker processes of a step
does without torch.
"""
