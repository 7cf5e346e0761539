"""Merging stores: the studies of several stores become studies of one, with their networks and checkpoints."""
