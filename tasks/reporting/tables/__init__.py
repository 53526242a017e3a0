"""Results as tables: one model of a table, shown in the terminal, in Markdown and in Prefect."""

from tasks.reporting.tables.prefect import results_artifact
from tasks.reporting.tables.terminal import errors_text, results_table

__all__ = ["errors_text", "results_artifact", "results_table"]
