"""Keeps the progress bars and advice of transformers and datasets out of this project's output."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no messages below errors from transformers, until the block ends."""
    from transformers.utils import logging as told

    verbosity, bars = told.get_verbosity(), told.is_progress_bar_enabled()
    told.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the hub's client warns where its own bars are fixed
        told.disable_progress_bar()
        try:
            yield
        finally:
            told.set_verbosity(verbosity)
            if bars:
                told.enable_progress_bar()


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """No progress bars and no messages from ``datasets``, until the block ends."""
    import datasets

    verbosity = datasets.logging.get_verbosity()
    bars = datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()
