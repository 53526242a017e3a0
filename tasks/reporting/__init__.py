"""Results as files, plots and pages: rows in, nothing computed that is not in them."""
