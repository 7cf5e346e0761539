"""Search spaces, one system per file with its paper at the top."""
