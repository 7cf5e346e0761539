"""The Markov chains: the training chain, random walks over graphs, scores, and importance of operations."""
