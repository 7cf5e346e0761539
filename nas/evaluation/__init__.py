"""The contract of evaluators and training rules."""
