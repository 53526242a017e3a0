"""Zero-shot tasks of lm-evaluation-harness, as a library: no code of a task runs without trust."""
