"""Zero-cost proxies of the literature, which need an untrained network; one a file."""
