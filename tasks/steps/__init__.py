"""Runs the steps of a plan: the only room of ``tasks`` that knows Prefect."""
