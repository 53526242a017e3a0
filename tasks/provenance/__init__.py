"""Why two figures differ: their inputs, how much each matters, and what papers report."""
