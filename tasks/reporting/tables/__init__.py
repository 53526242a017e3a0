"""Results as tables: one model of them, and how a terminal, Markdown and Prefect show it."""

from tasks.reporting.tables.artifact import results_artifact
from tasks.reporting.tables.terminal import errors_text, results_table

__all__ = ["errors_text", "results_artifact", "results_table"]
