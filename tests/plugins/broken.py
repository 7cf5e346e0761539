"""A plug-in that does not import."""

raise RuntimeError("I am broken\nin two lines")
