"""VirtualTimeLoop: an event loop in which waiting takes no time, and one seed one order.

Time stands still while there is anything to do, and then jumps to the next timer. Nothing in
it touches a socket, a thread or the machine's clock. Several simulated processes share the
loop: what one of them started, and whatever follows from it, runs in its context, and does not
run while the process is stopped, nor ever again once it is dead.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
from asyncio import events
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")
START_S = 1000.0

_current: ContextVar[Process | None] = ContextVar("process", default=None)


class Process:
    """One simulated process: it runs, is stopped for a while, or is dead, at any moment."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self.loop = loop
        self.dead = False
        self.stopped = False
        self._held: list[asyncio.Handle] = []
        self.context: Context = copy_context()
        self.context.run(_current.set, self)

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Have the process call something, as soon as it runs."""
        self.loop.call_soon(callback, *args, context=self.context)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task of the process."""
        return self.loop.create_task(work, context=self.context)

    def admits(self, handle: asyncio.Handle) -> bool:
        """Say whether a callback may run now; while the process is stopped it is kept."""
        if self.stopped and not self.dead:
            self._held.append(handle)
        return not (self.dead or self.stopped)

    def stop(self) -> None:
        self.stopped = True

    def go_on(self) -> None:
        """Run again: first all that should have happened meanwhile."""
        self.stopped = False
        held, self._held = self._held, []
        self.loop.run_soon(held)

    def kill(self) -> None:
        """Have nothing of the process run any more, not even what cleans up."""
        self.dead = True
        self._held.clear()


class _Handle(asyncio.Handle):
    __slots__ = ()

    def _run(self) -> None:
        process = self._context.get(_current)  # type: ignore[attr-defined]
        if process is None or process.admits(self):
            super()._run()


class _TimerHandle(asyncio.TimerHandle):
    __slots__ = ()

    def _run(self) -> None:
        process = self._context.get(_current)  # type: ignore[attr-defined]
        if process is None or process.admits(self):
            super()._run()


class _Selector(selectors.BaseSelector):
    """Nothing is ever ready; waiting moves the clock."""

    def __init__(self) -> None:
        self.now_s = START_S
        self._map: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, -1, events, data)
        self._map[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._map.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits for something that will never come"
        self.now_s += max(0.0, timeout)
        return []

    def get_map(self) -> dict[Any, selectors.SelectorKey]:
        return self._map


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self._tasks: list[asyncio.Task[Any]] = []
        self.nobody = copy_context()
        self.set_task_factory(self._new_task)

    def time(self) -> float:
        return self._virtual.now_s

    def _new_task(self, loop: Any, work: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        self._tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def run_soon(self, handles: list[asyncio.Handle]) -> None:
        self._ready.extend(handles)  # type: ignore[attr-defined]

    def failed_tasks(self) -> list[BaseException]:
        """Return what tasks have ended with."""
        ended = [task for task in self._tasks if task.done() and not task.cancelled()]
        return [error for task in ended if (error := task.exception()) is not None]

    def forget_tasks(self) -> None:
        """Let go of what never ended, among it all of the dead processes'."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(BaseException):
                    task.get_coro().close()


def run(main: Callable[[VirtualTimeLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in virtual time."""
    loop = VirtualTimeLoop()
    loop.set_exception_handler(lambda _, __: None)
    events.set_event_loop(loop)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.forget_tasks()
        events.set_event_loop(None)
        loop.close()
