"""Executing networks with torch: plans, layers, refinement, controllers."""
