"""Proxies: scores of architectures without training; one score, or one family of sizes, a file."""

from nas.proxies.contract import Proxy, proxy

__all__ = ["Proxy", "proxy"]
