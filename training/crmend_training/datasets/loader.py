"""Batches made ahead of the network, the same ones whatever the number of threads."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def prefetch(
    make: Callable[[np.random.Generator], T],
    seed: int,
    *,
    first: int = 0,
    workers: int = 1,
    ahead: int = 4,
) -> Iterator[T]:
    """Yield batches first, first + 1, … without end, made in threads ahead of their use.

    Each batch has a random generator of its own, seeded with (seed, number): a training that
    resumes at step k with ``first=k`` sees the batches that it would have seen.

    Parameters
    ----------
    make : callable
        Makes one batch, such as the method ``draw`` of the batch classes; it must be safe to
        call from several threads (reading a set is).
    seed : int
    first : int
        Number of the first batch.
    workers : int
        Threads.  numpy lets go of the interpreter in the loops that cost time.
    ahead : int
        Batches that wait or are being made, at least `workers`.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for number in itertools.count(first):
                rng = np.random.default_rng([seed, number])
                waiting.append(pool.submit(make, rng))
                if len(waiting) > max(ahead, workers):
                    yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
