"""Keeps the harness from talking, from running templates as code, and from the global state."""

from __future__ import annotations

import importlib
import logging
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tasks.models.quiet import quiet, quiet_datasets
from tasks.runtime.variables import variable_set

DEFAULT_SEEDS = (0, 1234, 1234)
"""Of Python's, numpy's and torch's generators, as the harness's command line sets them."""

_BARS = ("lm_eval.api.task", "lm_eval.api.model", "lm_eval.models.huggingface", "tqdm")
_LOGGERS = ("lm_eval", "absl", "evaluate")


@contextmanager
def contained(seeds: tuple[int, int, int]) -> Iterator[None]:
    """Around every use of the harness: silent, sandboxed, seeded; all is put back at the end.

    Templates of task files run in Jinja's sandbox: its plain environment, which the harness uses,
    lets a template call anything in Python.
    """
    with ExitStack() as stack:
        stack.enter_context(quiet())
        stack.enter_context(quiet_datasets())
        stack.enter_context(_loggers())
        stack.enter_context(_seeded(seeds))
        for name in _BARS:
            module = importlib.import_module(name)
            stack.enter_context(_replaced(module, "tqdm", _no_bar))
        metrics = importlib.import_module("lm_eval.api.metrics")
        stack.enter_context(_replaced(metrics, "print", lambda *_, **__: None))
        utils = importlib.import_module("lm_eval.utils")
        stack.enter_context(_replaced(utils, "env", _sandbox(utils.env)))
        # Its bootstrap forks a pool, which does not go with threads; the draws are the same.
        stack.enter_context(variable_set("DISABLE_MULTIPROC", "1"))
        yield


def _no_bar(*arguments: Any, **settings: Any) -> Any:
    from tqdm.std import tqdm

    return tqdm(*arguments, **{**settings, "disable": True})


def _sandbox(plain: Any) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    sandbox = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    sandbox.filters.update(plain.filters)
    return sandbox


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    missing = object()
    former = vars(module).get(name, missing)
    setattr(module, name, value)
    try:
        yield
    finally:
        if former is missing:
            delattr(module, name)
        else:
            setattr(module, name, former)


@contextmanager
def _loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _seeded(seeds: tuple[int, int, int]) -> Iterator[None]:
    import numpy
    import torch

    states = random.getstate(), numpy.random.get_state(), torch.random.get_rng_state()
    random.seed(seeds[0])
    numpy.random.seed(seeds[1])
    torch.manual_seed(seeds[2])
    try:
        yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        torch.random.set_rng_state(states[2])
