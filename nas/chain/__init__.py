"""The Markov chains: the training chain, random walks over graphs, scores, importance, and schedules of widths."""

from nas.chain.schedule import width_importance, width_schedule

__all__ = ["width_importance", "width_schedule"]
