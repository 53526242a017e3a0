"""Sketched OBS: second-order pruning under a Hessian of a diagonal and a few directions."""
