"""The Markov chain of TIPS: graphs of architectures, random walks over them, scores, and importance of operations."""
