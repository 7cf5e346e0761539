"""Anytime networks as frozen data: their parts, cost, wiring, liveness, gates, reuse and sampling. Needs only NumPy."""
