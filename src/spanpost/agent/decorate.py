"""Run each call of a function as a task of its own: sync, async, generator, async generator."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from functools import partial, wraps
from typing import Any, ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


class DecoratedRun(Protocol):
    """**Protocol:** a started task: it is made current for a while, and finished once."""

    def _as_current(self) -> AbstractContextManager[None]: ...

    def _finish(self, error: BaseException | None) -> None: ...


def decorate(start: Callable[[], DecoratedRun], function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with each call run as a task.

    The task of a generator starts at its first `next` and ends with the generator. It is current only while
    the generator's own code runs: otherwise spans of the consumer would become its children.
    """
    plain: Any = function
    wrapper: Any
    if inspect.iscoroutinefunction(plain):

        @wraps(plain)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            task = start()
            try:
                with task._as_current():
                    result = await plain(*args, **kwargs)
            except BaseException as error:
                task._finish(error)
                raise
            task._finish(None)
            return result

    elif inspect.isasyncgenfunction(plain):

        @wraps(plain)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return _drive_async(start, plain(*args, **kwargs))

    elif inspect.isgeneratorfunction(plain):

        @wraps(plain)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return _drive(start, plain(*args, **kwargs))

    else:

        @wraps(plain)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            task = start()
            try:
                with task._as_current():
                    result = plain(*args, **kwargs)
            except BaseException as error:
                task._finish(error)
                raise
            task._finish(None)
            return result

    return cast("Callable[P, R]", wrapper)


def _drive(start: Callable[[], DecoratedRun], generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    task = start()
    advance: Callable[[], Any] = partial(next, generator)
    try:
        while True:
            try:
                with task._as_current():
                    value = advance()
            except StopIteration as stop:
                task._finish(None)
                return stop.value
            try:
                sent = yield value
            except GeneratorExit:
                with task._as_current():
                    generator.close()
                raise
            except BaseException as error:
                advance = partial(generator.throw, error)
            else:
                advance = partial(generator.send, sent)
    except BaseException as error:
        task._finish(error)
        raise


async def _drive_async(
    start: Callable[[], DecoratedRun], generator: AsyncGenerator[Any, Any]
) -> AsyncGenerator[Any, Any]:
    task = start()
    advance: Callable[[], Any] = generator.__anext__
    try:
        while True:
            try:
                with task._as_current():
                    value = await advance()
            except StopAsyncIteration:
                task._finish(None)
                return
            try:
                sent = yield value
            except GeneratorExit:
                with task._as_current():
                    await generator.aclose()
                raise
            except BaseException as error:
                advance = partial(generator.athrow, error)
            else:
                advance = partial(generator.asend, sent)
    except BaseException as error:
        task._finish(error)
        raise
