"""Typed settings: what may be composed, checked before anything heavy is imported."""
