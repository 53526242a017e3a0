"""A sweep's report as pages: ``report.md``, and ``report.html`` in one file."""

from tasks.reporting.pages.markdown import render_report, write_report

__all__ = ["render_report", "write_report"]
