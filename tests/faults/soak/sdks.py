"""Programs with the SDKs and clients of TypeScript and Go, which write down what was acknowledged."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tests.conftest import find
from tests.faults.soak.actors import Process
from tests.faults.soak.world import World

#: Spans of each of their tasks, model calls among them, and input tokens.
SPANS, CALLS, TOKENS = 4, 3, 36


class Program(Process):
    """A program that runs one task after the other, with a batch processor and its language's OTLP exporter."""

    language = ""
    #: The gateway that it sends to.
    to = 0

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.aside = self.directory / "acknowledged"

    def command(self) -> Sequence[str]:
        """Return the program."""
        raise NotImplementedError

    def words(self) -> Sequence[str]:
        return f"{self.world.seed}-{self.runs}", str(self.aside)

    def variables(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.world.gateways[self.to].url}

    def launch(self) -> subprocess.Popen[bytes]:
        return self.world.launch([*self.command(), *self.words()], self.log, **self.variables())

    def acknowledged(self) -> list[tuple[str, str, str]]:
        """Return trace, span and task of each acknowledged span; the task is named by its root alone."""
        lines = self.aside.read_text().splitlines(keepends=True) if self.aside.exists() else []
        return [(words[0], words[1], words[2]) for line in lines if line.endswith("\n") for words in [line.split()]]

    def findings(self) -> Sequence[str]:
        """Each acknowledged span is a row, and each completely acknowledged task has the figures that it had."""
        acknowledged = self.acknowledged()
        rows = set(
            self.world.database.rows(
                "SELECT encode(trace_id, 'hex'), encode(span_id, 'hex') FROM agent_events WHERE part = 0"
            )
        )
        missing = [each for each in acknowledged if each[:2] not in rows]
        spans, named = defaultdict[str, set[str]](set), dict[str, str]()
        for trace, span, task in acknowledged:
            spans[trace].add(span)
            if task != "-":
                named[trace] = task
        like = f"{self.language}-{self.world.seed}-%"
        tasks = {
            row[0]: row[1:]
            for row in self.world.database.rows(
                f"SELECT task_id, status, llm_calls, input_tokens FROM agent_tasks WHERE task_id LIKE '{like}'"
            )
        }
        whole = [named[trace] for trace, found in spans.items() if len(found) == SPANS and trace in named]
        wrong = [(name, tasks.get(name)) for name in whole if tasks.get(name) != ("complete", CALLS, TOKENS)]
        return [
            *([f"{len(missing)} of {len(acknowledged)} acknowledged spans are no rows: {missing[:3]}"] * bool(missing)),
            *([f"{len(wrong)} of {len(whole)} tasks have other figures: {wrong[:3]}"] * bool(wrong)),
            *(["it had no task acknowledged"] * (not whole)),
        ]


class TypeScriptProgram(Program):
    """A program on Node, which sends OTLP as JSON."""

    name, language = "typescript program", "typescript"
    needs: ClassVar[Sequence[str]] = ("clients", "node")

    def command(self) -> Sequence[str]:
        return find("node"), str(Path(find("clients")) / "typescript" / "test" / "stream.mjs")


class GoProgram(Program):
    """A program in Go, which sends OTLP as protobuf."""

    name, language, to = "go program", "go", -1
    needs: ClassVar[Sequence[str]] = ("clients",)

    def command(self) -> Sequence[str]:
        return (str(Path(find("clients")) / "go-agent"),)
