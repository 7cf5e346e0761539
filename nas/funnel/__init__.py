"""The loop of a study: propose, screen, rank, train, halve, choose finalists."""
