"""Architecture search inside Ray Tune."""
