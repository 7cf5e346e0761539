"""TIPS's Markov chain over a topology: graph, walks, importance."""
