"""Token stores mixed in exact proportions: the sequence at any place of a run, found from its number alone."""

from dsm.data.mixture.mixture import Mixture

__all__ = ["Mixture"]
