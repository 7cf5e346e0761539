"""Running jobs: the contract of runners, and worker processes on this machine."""
