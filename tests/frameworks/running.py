"""An example of a framework, running in the framework's own environment, and its messages."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
#: Longer than anything here takes; what exceeds it has failed.
TIMEOUT = 200


class Message:
    """One call of Slack's Web API: the line of its notification and its whole text; empty if it writes nothing."""

    def __init__(self, line: str) -> None:
        call = json.loads(line)
        arguments = call["arguments"]
        self.is_new = call["method"] == "chat.postMessage"
        self.text: str = arguments.get("text", "")
        self.is_reply = "thread_ts" in arguments
        self.words = list(_words([arguments.get("blocks"), arguments.get("attachments")]))

    def __repr__(self) -> str:
        return f"{'  ' if self.is_reply else ''}{self.text} {self.words}"


def _words(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for each in part:
            yield from _words(each)
    elif isinstance(part, dict):
        for key, value in part.items():
            if isinstance(value, str) and key in ("text", "title", "status"):
                yield value.replace("\xa0", " ")
            else:
                yield from _words(value)


class Running:
    """A process that runs an example on command. The calls that Slack would receive are read while it runs."""

    def __init__(self, process: subprocess.Popen[bytes], preview: Path, tell: int, from_child: int) -> None:
        self.process = process
        self.messages: list[Message] = []
        self._tell = os.fdopen(tell, "w")
        self._output = os.fdopen(from_child)
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._open = 2
        self._has_begun = False
        for read in (lambda: self._read_preview(preview), self._read_lines):
            threading.Thread(target=read, daemon=True).start()

    def _read_preview(self, preview: Path) -> None:
        with preview.open() as file:
            self._read(file, lambda line: self.messages.append(Message(line)))

    def _read_lines(self) -> None:
        self._read(self._output, lambda line: self._lines.append(line.strip()))

    def _read(self, file: Any, take: Callable[[str], None]) -> None:
        for line in file:
            with self._changed:
                take(line)
                self._changed.notify_all()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def begin(self, what: str) -> Self:
        """Forget the earlier calls, and start an action of the example."""
        with self._changed:
            self.messages.clear()
            self._lines.clear()
        self._has_begun = True
        self.say(what)
        return self

    @property
    def is_done(self) -> bool:
        """True while it waits for a command, and not within an action."""
        return not self._has_begun or any(line.startswith(("done", "raised")) for line in self._lines)

    def say(self, line: str) -> None:
        """Send the process a line."""
        self._tell.write(f"{line}\n")
        self._tell.flush()

    def hear(self, *expected: str) -> str:
        """Wait until the process prints a line with that beginning."""
        return self._until(
            lambda: next((line for line in self._lines if line.startswith(expected)), None), str(expected)
        )

    def see(self, wanted: Callable[[Message], bool], why: str) -> Message:
        """Wait for a message."""
        return self._until(lambda: next((m for m in self.messages if wanted(m)), None), why)

    def _until(self, find: Callable[[], Any], why: str) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: find() is not None or not self._open, TIMEOUT)
            found = find()
            assert found is not None, f"not seen: {why}; seen: {self._lines}\n" + "\n".join(map(repr, self.messages))
            return found

    def close(self) -> None:
        """Let the process end by itself."""
        self._tell.close()
        try:
            self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            self.process.wait()


def as_installed(directory: Path) -> Path:
    """Write the metadata of an installed package, so that the tree's sinks are found; return the directory."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    info = directory / f"spanpost-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: spanpost\nVersion: {project['version']}\n")
    groups = {**project["entry-points"], "console_scripts": project["scripts"]}
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {what}\n" for name, what in points.items())
        for group, points in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return directory


@contextmanager
def running(example: Path, venv: Path, directory: Path) -> Iterator[Running]:
    """Run an example with its framework's environment, followed by the spanpost of this tree."""
    preview = directory / "slack.jsonl"
    os.mkfifo(preview)
    (directory / "site").mkdir()
    environment = {
        "HOME": str(directory),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{as_installed(directory / 'site')}",
        "SPANPOST_SLACK__PREVIEW_FILE": str(preview),
        # Slack's rate limits are not tested here.
        "SPANPOST_SLACK__EDITS_PER_MINUTE": "60000",
        "SPANPOST_SLACK__POSTS_PER_MINUTE": "60000",
        "SPANPOST_SLACK__POSTS_PER_CHANNEL_PER_MINUTE": "60000",
    }
    to_read, from_child = os.pipe()
    from_child_here, to_write = os.pipe()
    process = subprocess.Popen(
        [venv / "bin" / "python", Path(__file__).with_name("drive.py"), example, str(to_read), str(to_write)],
        cwd=directory,
        env=environment,
        pass_fds=(to_read, to_write),
        stdin=subprocess.DEVNULL,
        stdout=(directory / "stdout").open("wb"),
        stderr=(directory / "stderr").open("wb"),
    )
    os.close(to_read)
    os.close(to_write)
    run = Running(process, preview, from_child, from_child_here)
    try:
        yield run
    finally:
        run.close()
