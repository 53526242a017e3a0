"""What a sweep may say of selections: the names, for the schema and for whoever computes them."""

from __future__ import annotations

from typing import Literal

Sampling = Literal["contiguous", "random", "spread", "coreset"]
CoresetMethod = Literal["tagcos", "omp", "kmeans", "stratified", "medoids"]
Form = Literal["adam", "plain"]
Repeats = Literal["exclude", "stop"]
Weights = Literal["none", "cluster", "pursuit"]
