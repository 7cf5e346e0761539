"""Training controllers and gate policies."""
