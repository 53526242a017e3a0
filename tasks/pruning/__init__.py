"""The pruning methods, one file or folder each; imports torch and the standard library alone."""
