"""The contract of search spaces, and the choices that they make."""
