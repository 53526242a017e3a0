"""Plots as PNG: figures against sparsity, against what they cost, and layer by layer."""

from tasks.reporting.plots.write import write_plots

__all__ = ["write_plots"]
