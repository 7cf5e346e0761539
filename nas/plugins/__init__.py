"""Plug-ins: finding and loading them, their versions, and the user's consent to run their files."""

from nas.plugins.loading import (
    canonical_spec,
    describe,
    identity,
    installed,
    load_plugin,
    trust,
    trust_named,
)

__all__ = ["canonical_spec", "describe", "identity", "installed", "load_plugin", "trust", "trust_named"]
