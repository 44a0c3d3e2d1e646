"""Streams of an emulated device: what is asked for waits in them, and runs when something forces it, or by chance.

As late as allowed, nothing runs before the host waits for an event, and then only what leads to that event: the work
before it on its stream, and what that follows. With a seed, work runs at random moments in a random order of the
streams. Who has left out a wait gets a wrong answer, or bytes that nobody has written.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from zeptodb.backends.cuda.driver import DeviceError, Stream

_STEPS = (0, 0, 0, 1, 1, 2, 4, 8)
"""How much runs by chance whenever something is asked for."""


@dataclass(slots=True, eq=False)
class EmulatedEvent:
    """A moment of a stream; `error` is what had failed there by then."""

    stream: Stream
    is_done: bool = False
    error: DeviceError | None = None


@dataclass(slots=True, eq=False)
class _Follow:
    event: EmulatedEvent


class Streams:
    """The streams of one device; the owner's lock guards them."""

    def __init__(self, schedule: int | None) -> None:
        """schedule: None for as late as allowed, else a seed."""
        self._random = None if schedule is None else random.Random(schedule)
        self._queues: dict[Stream, deque[EmulatedEvent | _Follow | Callable[[], object]]] = {s: deque() for s in Stream}
        self._errors: dict[Stream, DeviceError | None] = dict.fromkeys(Stream)
        self._is_running = False

    @property
    def are_idle(self) -> bool:
        """Whether nothing is left to do."""
        return not self._is_running and not any(self._queues.values())

    def ask(self, stream: Stream, work: Callable[[], object]) -> None:
        self._queues[stream].append(work)
        if self._random is not None:
            for _ in range(self._random.choice(_STEPS)):
                self._step(self._random.choice(list(Stream)))

    def record(self, stream: Stream) -> EmulatedEvent:
        event = EmulatedEvent(stream)
        self._queues[stream].append(event)
        return event

    def follow(self, stream: Stream, event: EmulatedEvent) -> None:
        self._queues[stream].append(_Follow(event))

    def wait(self, event: EmulatedEvent) -> None:
        """Run what leads to the event; raises what has failed before it, once."""
        while not event.is_done:
            if self._random is not None and self._step(self._random.choice(list(Stream))):
                continue
            self._step_towards(event)
        if event.error is not None:
            for stream in Stream:
                if self._errors[stream] is event.error:
                    self._errors[stream] = None
            raise event.error

    def finish_all(self) -> None:
        """Run everything, whatever fails. Called out of work that is running, it does nothing."""
        while not self.are_idle and not self._is_running:
            for stream in Stream:
                self._step(stream)

    def _step_towards(self, event: EmulatedEvent) -> None:
        head = self._queues[event.stream][0]
        if isinstance(head, _Follow) and not head.event.is_done:
            self._step_towards(head.event)
        else:
            self._step(event.stream)

    def _step(self, stream: Stream) -> bool:
        """Run what comes first on a stream; False when there is nothing, or when it must wait for the other one."""
        queue = self._queues[stream]
        if self._is_running or not queue:
            return False
        head = queue[0]
        if isinstance(head, _Follow) and not head.event.is_done:
            return False
        queue.popleft()
        if isinstance(head, _Follow):
            self._errors[stream] = self._errors[stream] or head.event.error
        elif isinstance(head, EmulatedEvent):
            head.is_done, head.error = True, self._errors[stream]
        else:
            self._run(stream, head)
        return True

    def _run(self, stream: Stream, work: Callable[[], object]) -> None:
        self._is_running = True  # the garbage collector may come back here out of it
        try:
            work()
        except DeviceError as error:
            self._errors[stream] = error
        finally:
            self._is_running = False
