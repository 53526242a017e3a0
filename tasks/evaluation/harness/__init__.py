"""lm-evaluation-harness as a library: its tasks by name, its figures, no code that is not trusted."""
