"""Writing a study: its session, and the checks of its rows. `results.writer` is the interface."""
