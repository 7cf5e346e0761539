"""Scores of candidates without training."""

from nas.proxies.contract import Proxy, proxy

__all__ = ["Proxy", "proxy"]
