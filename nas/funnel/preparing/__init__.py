"""Before a search: its settings become the parts of a study, and everything is checked before anything is written."""
