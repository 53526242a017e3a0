"""MLflow: one run a sweep, one child a cell, one child a curve, each written once.

The only package that imports mlflow, and only where it is used: the import takes seconds.
Everything goes through ``MlflowClient``, never through the fluent interface and its process-wide
active run.

MLflow has no unique key for a run, so identity lives in tags: ``secateur.kind``,
``secateur.sweep`` (the sweep's fingerprint), ``secateur.row`` (model, method, target and seed) and
``secateur.cell`` (the row's fingerprint). A writer takes a file lock in the home, looks the run up
by its tags and creates it only when there is none. What is written twice stays once: a metric point
that is there already is not sent again. A killed process leaves its run RUNNING, and the next one
completes that same run.
"""

from __future__ import annotations

from tasks.tracking.connection import connect, hurried, initialise
from tasks.tracking.outages import TrackingUnavailableError
from tasks.tracking.records import InputRecord, SweepIdentity
from tasks.tracking.tracker import Tracker
from tasks.tracking.views import CELLS, CURVES

__all__ = [
    "CELLS",
    "CURVES",
    "InputRecord",
    "SweepIdentity",
    "Tracker",
    "TrackingUnavailableError",
    "connect",
    "hurried",
    "initialise",
]
