"""Search spaces: their contract and their choices."""
