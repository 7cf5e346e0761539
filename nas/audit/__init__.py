"""The audit of proxies: rank correlation with size removed, ranked candidates against random controls, and reliance."""
