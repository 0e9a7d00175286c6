"""What a command does now: rooms name their phases here, and the command line shows them. Without a listener nothing is shown."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str, float | None], None]
"""Called with a phase in words, and with the share of it that is done, from 0 to 1; None: not known."""
MANY = 200
"""Items whose share is told; fewer take no time."""
_listeners: list[Listener] = []


def phase(text: str, share: float | None = None) -> None:
    """Name what is done from now on, or how much of it is done."""
    for listener in _listeners:
        listener(text, share)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call a listener for every phase of this process during the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def counted(items: Iterable[T], total: int, text: str) -> Iterator[T]:
    """Yield items, and tell their share of `total` as that of a phase; nothing is told of few items."""
    step = max(1, total // 100)
    for number, item in enumerate(items, 1):
        if total >= MANY and (number % step == 0 or number == total):
            phase(text, number / total)
        yield item
