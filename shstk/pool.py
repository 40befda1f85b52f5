"""Answering questions on all cores, with progress on a terminal."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_messages: Any = None
_stopped = False


class Meter:
    """One line of progress on standard error, on a terminal only."""

    def __init__(self, stream: Any = None) -> None:
        self.stream = stream or sys.stderr
        self.on = bool(self.stream.isatty())
        self._last = 0.0

    def show(self, text: str) -> None:
        """Replace the line, at most ten times a second."""
        now = time.monotonic()
        if self.on and now - self._last > 0.1:
            self._last = now
            self.stream.write(f"\r\033[K{text[:100]}")
            self.stream.flush()

    def clear(self) -> None:
        """Leave no line behind."""
        if self.on:
            self.stream.write("\r\033[K")
            self.stream.flush()


def _start(messages: Any) -> None:
    global _messages
    _messages = messages
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(_signal: int, _frame: object) -> None:
    """Ctrl-C: end what runs, and begin nothing that the pool has handed out already."""
    global _stopped
    _stopped = True
    raise KeyboardInterrupt


def _tell(text: str) -> None:
    _messages.put(text)


def _work(task: Callable[[Any, Callable[[str], None]], T], argument: Any) -> T:
    if _stopped:
        raise KeyboardInterrupt
    return task(argument, _tell)


def run(
    task: Callable[[Any, Callable[[str], None]], T], arguments: Sequence[Any], meter: Meter
) -> tuple[list[T], bool]:
    """The results of ``task`` for each argument, in order, and whether Ctrl-C cut it short.

    Ctrl-C reaches the workers as well; each gives back what it has.
    """
    context = multiprocessing.get_context("fork")
    messages = context.SimpleQueue()
    cores = min(len(os.sched_getaffinity(0)), max(1, len(arguments)))
    done: dict[int, T] = {}
    interrupted = False
    pool = ProcessPoolExecutor(cores, context, _start, (messages,))
    try:
        futures: dict[Future[T], int] = {
            pool.submit(_work, task, argument): n for n, argument in enumerate(arguments)
        }
        while len(done) < len(futures):
            try:
                _drain(messages, meter, len(done), len(futures))
                for future, number in futures.items():
                    if future.done() and number not in done and not future.cancelled():
                        if isinstance(future.exception(), KeyboardInterrupt):
                            interrupted = True
                        else:
                            done[number] = future.result()
                if interrupted and all(f.done() for f in futures):
                    break
                time.sleep(0.02)
            except KeyboardInterrupt:
                interrupted = True
                for future in futures:
                    future.cancel()
    finally:
        meter.clear()
        pool.shutdown(wait=not interrupted, cancel_futures=True)
    return [done[n] for n in sorted(done)], interrupted


def _drain(messages: Any, meter: Meter, done: int, of: int) -> None:
    try:
        while not messages.empty():
            meter.show(f"[{done}/{of}] {messages.get()}")
    except (OSError, queue.Empty):
        pass
