"""lm-evaluation-harness as a library: its tasks, its figures, no code without trust."""
