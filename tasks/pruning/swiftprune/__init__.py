"""SwiftPrune: a moving average finds the threshold that a sort would find."""
