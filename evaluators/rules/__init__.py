"""Training rules: the subnetworks of a training step, and their losses."""
