"""Wiring: the command, the flows that Prefect runs, where cells are computed, what is served."""
