"""Reference proxies that need weights or a batch."""
