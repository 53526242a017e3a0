"""Which windows of a text calibrate or train: pure functions of counts, or of gradients."""
