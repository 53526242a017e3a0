"""Policy gradient: which heads and channels stay is learned from forward passes alone."""
