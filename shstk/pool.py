"""Answering questions on all cores, with progress on a terminal.

Ctrl-C reaches the workers from the terminal, and by way of the master where only that was
meant.  A worker that has something to do gives back what it has; one that waits for work
stays, because a pool that loses a worker loses all answers.  A second Ctrl-C ends them.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from shstk.errors import UserError

T = TypeVar("T")
ECHO = 1.0  # seconds in which the terminal's Ctrl-C and the master's are one
AGAIN = 0.02  # seconds
FRAGILE = frozenset({"__del__", "from_param"})  # functions that must not raise

# Of a worker: where it tells what it does, that it is one, whether it has something to do, and
# since when it begins nothing new.
_messages: Any = None
_inside = False
_busy = False
_stopped = 0.0


def cores() -> int:
    """How many processes to have side by side; one in a worker, which has others beside it."""
    return 1 if _inside else len(os.sched_getaffinity(0))


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


class Teller(Meter):
    """Tells whoever shows the progress, such as a pool's master."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def show(self, text: str) -> None:
        """Tell it."""
        self._tell(text)

    def clear(self) -> None:
        """The line is somebody else's."""


# -- when Ctrl-C is raised --------------------------------------------------------------
def _raise(_signal: int, frame: FrameType | None) -> None:
    """KeyboardInterrupt, unless it would be lost here: then a little later.

    From a destructor Python cannot raise it, and prints it; ctypes makes another error of it.
    z3's terms are deleted and passed to C all the time.
    """
    while frame is not None:
        if frame.f_code.co_name in FRAGILE:
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _hears() -> bool:
    """Ctrl-C is for this thread, and nobody has said to ignore it."""
    main = threading.current_thread() is threading.main_thread()
    return main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is raised, and neither lost nor printed, wherever it comes."""
    if not _hears():
        yield
        return
    before = {n: signal.signal(n, _raise) for n in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


# -- a worker ------------------------------------------------------------------------------
def _start(messages: Any) -> None:
    global _messages, _inside
    _messages, _inside = messages, True
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt_again)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C: end what runs, and begin nothing that the pool has handed out already."""
    global _stopped
    before, _stopped = _stopped, time.monotonic()
    if _busy and _stopped - before > ECHO:
        _raise(number, frame)


def _interrupt_again(number: int, frame: FrameType | None) -> None:
    if _busy:
        _raise(number, frame)


def _tell(text: str) -> None:
    _messages.put(text)


def _work(task: Callable[[Any, Callable[[str], None]], T], argument: Any) -> T:
    global _busy
    try:
        _busy = True
        if _stopped:
            raise KeyboardInterrupt
        return task(argument, _tell)
    finally:
        _busy = False


# -- the master ----------------------------------------------------------------------------
class _Listener:
    """Counts Ctrl-C instead of raising it, so that it can come at any moment."""

    def __init__(self) -> None:
        self.heard = 0
        self._before: Any = None
        self._on = _hears()

    def __enter__(self) -> _Listener:
        if self._on:
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._on:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, _signal: int, _frame: object) -> None:
        self.heard += 1


def run(
    task: Callable[[Any, Callable[[str], None]], T], arguments: Sequence[Any], meter: Meter
) -> tuple[list[T], bool]:
    """The results of ``task`` for each argument, in order, and whether Ctrl-C cut it short.

    Raises what a task raises, and ``UserError`` where a worker was killed.
    """
    context = multiprocessing.get_context("fork")
    messages = context.SimpleQueue()
    count = min(cores(), max(1, len(arguments)))
    done: dict[int, T] = {}
    told, lost = 0, False
    with _Listener() as listener:
        pool = ProcessPoolExecutor(count, context, _start, (messages,))
        try:
            futures = _submit(pool, task, arguments)
            while True:
                _drain(messages, meter, len(done), len(futures))
                ended = [f for f in futures if f.done()]
                lost = _collect(ended, futures, done, bool(told)) or lost
                if len(ended) == len(futures):
                    break
                if listener.heard > told or (lost and not told):
                    told = max(listener.heard, 1)
                    _end(pool, futures, signal.SIGINT if told == 1 else signal.SIGKILL)
                time.sleep(0.02)
        except BaseException:
            _end(pool, [], signal.SIGKILL)
            raise
        finally:
            meter.clear()
            pool.shutdown(wait=True, cancel_futures=True)
        return [done[n] for n in sorted(done)], lost or listener.heard > 0


def _submit(
    pool: ProcessPoolExecutor,
    task: Callable[[Any, Callable[[str], None]], T],
    arguments: Sequence[Any],
) -> dict[Future[T], int]:
    """Hand everything out; the workers, which are forked here, begin without Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return {pool.submit(_work, task, argument): n for n, argument in enumerate(arguments)}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _collect(
    ended: Sequence[Future[T]], numbers: dict[Future[T], int], done: dict[int, T], told: bool
) -> bool:
    """Keep the results that are there; True if Ctrl-C has taken one."""
    lost = False
    for future in ended:
        if numbers[future] in done:
            continue
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or isinstance(error, KeyboardInterrupt):
            lost = True
        elif isinstance(error, BrokenProcessPool):
            if not told:
                raise UserError(
                    "a worker process was killed: is there too little memory? say --memory, "
                    "or smaller bounds"
                )
            lost = True
        else:
            done[numbers[future]] = future.result()
    return lost


def _end(
    pool: ProcessPoolExecutor, futures: Sequence[Future[Any]] | dict[Future[Any], int], by: int
) -> None:
    """Begin nothing new, and have the workers end what they do."""
    for future in futures:
        future.cancel()
    for worker in list((pool._processes or {}).values()):
        if worker.pid is not None and worker.is_alive():
            os.kill(worker.pid, by)


def _drain(messages: Any, meter: Meter, done: int, of: int) -> None:
    try:
        while not messages.empty():
            meter.show(f"[{done}/{of}] {messages.get()}")
    except (OSError, queue.Empty):
        pass
