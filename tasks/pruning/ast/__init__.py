"""AST: the weights are retrained while an adaptive mask settles on keep:group."""
