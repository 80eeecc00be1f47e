"""Launcher that runs a command: a list of arguments without a shell, a minimal environment, limited output and time."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import Field, field_validator, model_validator

from spanpost.launchers.base import LauncherPlugin, LauncherSettings
from spanpost.model.deliveries import Receipt
from spanpost.model.errors import DeliveryRefused, DeliveryUncertain, Rejected, Unavailable
from spanpost.model.findings import Finding
from spanpost.model.launch_orders import Order, order_json
from spanpost.plugins import Duration
from spanpost.text.sanitise import line, scrub
from spanpost.text.templates import mistake, places, render

log = logging.getLogger("spanpost.launchers")

#: Environment variables that every command gets.
KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME")
#: Variable that holds the order as JSON (`spanpost.agent.agent_task` reads it).
ORDER_VARIABLE: Final = "SPANPOST_ORDER"
#: EX_TEMPFAIL of sysexits.h: try again later.
_LATER: Final = 75
#: Last bytes of a command's output that are kept.
_KEPT_OUTPUT: Final = 4_096
#: Seconds between SIGTERM and SIGKILL.
_GRACE: Final = 2.0
#: Seconds to wait for the last output of a command that has ended.
_LAST_OUTPUT: Final = 0.2
#: A background command that is still running after this many seconds has begun.
_BEGUN: Final = 1.0
_PLACES: Final = frozenset({"id", "launcher", "tenant", "text", "retry_of", "caused_by", "requested_by", "source"})


class CommandSettings(LauncherSettings):
    """Settings of a command that starts the work, as a list of arguments. No shell reads it."""

    command: tuple[str, ...] = Field(
        min_length=1,
        description='The program and its arguments: `["/opt/agents/run", "--", "{text}"]`. In braces: `id`, '
        "`text`, `retry_of`, `caused_by`, `requested_by`, `tenant`, `launcher`, `source` and "
        "`parameters.<name>`; each stays within its argument.",
    )
    directory: Path | None = Field(default=None, description="Working directory; not given: the root directory.")
    environment: dict[str, str] = Field(default={}, description="Environment variables of the command.")
    pass_environment: tuple[str, ...] = Field(
        default=(),
        description="Names of variables of spanpost's environment to pass on. Not given: "
        f"{', '.join(f'`{name}`' for name in KEPT[:5])} and a few like them.",
    )
    background: bool = Field(
        default=False,
        description="The command is the work itself: it runs on in the background, without its output, for "
        "`timeout` at most. Else it hands the work on, and must end by itself.",
    )
    timeout: Duration = Field(
        default=timedelta(seconds=20),
        gt=timedelta(0),
        le=timedelta(days=7),
        description="How long it may run; then it and its child processes are ended. Not in the background: "
        "25 s at most.",
    )
    retry_uncertain: bool = Field(
        default=True,
        description="Run it again if it is unknown whether it began; it recognises a repeat by the `id` in "
        f"`{ORDER_VARIABLE}`. `false`: a person decides.",
    )

    @field_validator("command")
    @classmethod
    def _is_a_command(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0] or list(places(value[0])):
            raise ValueError("the first must be a program, without braces")
        for number, argument in enumerate(value, 1):
            if "\0" in argument:
                raise ValueError(f"argument {number} holds a NUL")
            if why := mistake(argument):
                raise ValueError(f"argument {number}: {why}")
            for place in places(argument):
                if place not in _PLACES and not place.startswith("parameters."):
                    raise ValueError(
                        f"argument {number}: there is no {{{place}}}; there are {', '.join(sorted(_PLACES))}"
                    )
        return value

    @model_validator(mode="after")
    def _is_quick(self) -> CommandSettings:
        if not self.background and self.timeout > timedelta(seconds=25):
            raise ValueError("timeout: more than 25 s is for commands in the background; set background = true")
        return self


def arguments_of(command: Sequence[str], order: Order) -> list[str]:
    """Return a command's arguments for an order. Raises `Rejected` where a text would be read as an option."""
    fields = order_json(order)
    document = {name: "" if value is None else value for name, value in fields.items()}
    made = [command[0]]
    for number, template in enumerate(command[1:], 2):
        text = render(template, document).replace("\0", "")
        if template.startswith("{") and text.startswith("-") and "--" not in command[1 : number - 1]:
            raise Rejected(
                f"argument {number} would begin with a dash and be taken for an option: put a '--' before it",
                reason="dash",
            )
        made.append(text)
    return made


def environment_of(settings: CommandSettings, order: Order, ours: Mapping[str, str]) -> dict[str, str]:
    """Return a command's environment: a few variables of spanpost's, those of the settings, and the order as JSON."""
    kept = {name: ours[name] for name in (*KEPT, *settings.pass_environment) if name in ours}
    return {**kept, **settings.environment, ORDER_VARIABLE: json.dumps(order_json(order))}


class CommandLauncher:
    """Runs a command for each order."""

    def __init__(self, name: str, settings: CommandSettings) -> None:
        self._name = name
        self._settings = settings
        self.retry_uncertain = settings.retry_uncertain
        self._under_way: set[asyncio.Task[None]] = set()

    async def launch(self, order: Order) -> Receipt:
        """Run the command; return when it has succeeded, or in the background when it has begun."""
        settings = self._settings
        if settings.background:
            return await self._begin(await self._run(order, subprocess.DEVNULL))
        async with _Output() as captured:
            process = await self._run(order, captured.end)
            try:
                async with asyncio.timeout(settings.timeout.total_seconds()):
                    code = await process.wait()
            except TimeoutError:
                await _end(process)
                seconds = settings.timeout.total_seconds()
                raise DeliveryUncertain(
                    f"it did not end within {seconds:g} s, and was ended", reason="timeout"
                ) from None
            except BaseException:
                await _end(process)
                raise
            _judge(code, await captured.text() if code else "")
        return Receipt(ref={"pid": process.pid})

    async def _run(self, order: Order, output: int) -> asyncio.subprocess.Process:
        settings = self._settings
        try:
            return await asyncio.create_subprocess_exec(
                *arguments_of(settings.command, order),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=settings.directory or "/",
                env=environment_of(settings, order, os.environ),
                start_new_session=True,  # a process group of its own, so that it can be ended as a whole
            )
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            cure = f"mend launchers.named.{self._name}: the command must be there and may be run, its directory too"
            raise DeliveryRefused(f"the command cannot be run: {error.strerror}", cure=cure, reason="command") from None
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise Rejected("the order is too long for a command's arguments", reason="too_long") from None
            raise Unavailable(f"the command cannot be run: {error.strerror}", reason="command") from None

    async def _begin(self, process: asyncio.subprocess.Process) -> Receipt:
        ref = {"pid": process.pid}
        try:
            async with asyncio.timeout(_BEGUN):
                code = await process.wait()
        except TimeoutError:
            watching = asyncio.create_task(self._watch(process))
            self._under_way.add(watching)
            watching.add_done_callback(self._under_way.discard)
            return Receipt(ref=ref)
        except BaseException:
            await _end(process)
            raise
        _judge(code, "")
        return Receipt(ref=ref)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        seconds = self._settings.timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                code = await process.wait()
            if code:
                log.warning("launcher %s: its command ended with %d", self._name, code)
        except TimeoutError:
            log.warning("launcher %s: its command is ended after %g s", self._name, seconds)
            await _end(process)

    async def close(self) -> None:
        """Stop watching. Commands in the background go on."""
        for task in list(self._under_way):
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=0.2)

    async def check(self) -> Sequence[Finding]:
        """Check whether the program exists."""
        program = self._settings.command[0]
        path = self._settings.environment.get("PATH", os.environ.get("PATH"))
        if shutil.which(program, path=path) is None:
            return [
                Finding(
                    ok=False, found=f"there is no program {line(program, 100)}", cure="install it, or mend the command"
                )
            ]
        return [Finding(ok=True, found=f"{line(program, 100)} is there")]


class _Output:
    """The last output of a command, over a pipe of its own: processes that it leaves running may hold it open."""

    async def __aenter__(self) -> _Output:
        ours, self.end = os.pipe()
        self._kept = b""
        loop = asyncio.get_running_loop()
        stream = asyncio.StreamReader(loop=loop)
        reader = open(ours, "rb", buffering=0)  # noqa: ASYNC230, SIM115  (a pipe; the transport closes it)
        self._transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream, loop=loop), reader
        )
        self._reading = asyncio.create_task(self._read(stream))
        return self

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while part := await stream.read(65_536):
            self._kept = (self._kept + part)[-_KEPT_OUTPUT:]

    async def text(self) -> str:
        """Return the last output so far."""
        self._close_end()
        await asyncio.wait({self._reading}, timeout=_LAST_OUTPUT)
        return self._kept.decode("utf-8", "replace")

    def _close_end(self) -> None:
        if self.end >= 0:
            os.close(self.end)
            self.end = -1

    async def __aexit__(self, *_: object) -> None:
        self._close_end()
        self._reading.cancel()
        self._transport.close()
        await asyncio.wait({self._reading})


def _judge(code: int, output: str) -> None:
    """Raise the error that an exit code means."""
    if code == 0:
        return
    message = f"the command ended with {code}" + (
        f": {line(scrub(output.strip())[-200:], 200)}" if output.strip() else ""
    )
    if code == _LATER:
        raise Unavailable(message, reason="later")
    raise Rejected(message, reason="exit")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a command and all that it started: SIGTERM, then SIGKILL."""
    for number, grace in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        if process.returncode is not None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await process.wait()


def _open(name: str, settings: CommandSettings) -> CommandLauncher:
    return CommandLauncher(name, settings)


plugin = LauncherPlugin(kind="command", settings=CommandSettings, open=_open)
