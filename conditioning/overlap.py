"""Reading and writing beside the work: each in one thread of its own, never more than one item away from it.

What they do (the network, disks, hashing, scans of bytes) runs without the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yield the items, their errors too; the next one is made while the caller works on this one.

    Where it is closed early, it first waits for the one that is being made, and drops it.
    """
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(_next, items)
        while item := coming.result():
            coming = thread.submit(_next, items)
            yield item.pop()


def _next(items: Iterator[T]) -> list[T]:
    """Return the next item in a list that its taker empties, so that no one else holds it; an empty one at the end."""
    for item in items:
        return [item]
    return []


@contextmanager
def behind(write: Callable[[bytes], object]) -> Iterator[Callable[[bytes], object]]:
    """Give a `write` that returns while the bytes are being written; errors come with the next call or the end."""
    with ThreadPoolExecutor(1) as thread:
        pending: list[Future[object]] = []

        def write_behind(data: bytes) -> None:
            while pending:
                pending.pop().result()
            pending.append(thread.submit(write, data))

        yield write_behind
        while pending:
            pending.pop().result()
