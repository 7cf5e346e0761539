"""The untrained end of a search: propose candidates, check them, compute their costs and scores. Needs no torch."""
