"""Anytime networks as plain data: what they are, what they cost, what their points share. Needs numpy only."""
