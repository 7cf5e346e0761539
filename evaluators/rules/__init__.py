"""Training rules: the subnetworks that a training step trains, and their losses."""
