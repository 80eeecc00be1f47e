"""Agents that are processes of their own: one with a spool, one that asks people and waits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults.soak.actors import Process
from tests.faults.soak.world import Gateway, Rows, World


class DurableAgent(Process):
    """An agent that records into the database itself, with a spool for what it has not recorded yet."""

    name = "durable agent"
    module = "tests.faults.soak.durable_agent"
    #: 3: deliveries wait, also those of others, and it said so. All must be delivered at the end of the run.
    good_codes = (0, 3)
    is_last = True  # its import delivers also what others left
    #: Seconds between two of its calls.
    pace = 0.1

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.spool = self.directory / "spool"
        self.spool.mkdir(mode=0o700)
        self.has_small_disk = world.small_disk(self.spool, 8)

    def words(self) -> Sequence[str]:
        return str(self.runs), str(self._aside(self.runs)), str(self.pace)

    def variables(self) -> dict[str, str]:
        return {
            **self.world.settings(),
            "DATABASE_URL": self.world.database.dsn,
            "SPANPOST_INTAKE__SPOOL_DIR": str(self.spool),
            **self.machine.variables,
        }

    def _aside(self, run: int) -> Path:
        return self.directory / f"aside-{run}"

    def close(self) -> None:
        """Stop it, and let a last run import what the killed ones left."""
        super().close()
        self.runs += 1
        last = self.world.spawn(self.module, self.log, "last", "-", "0", **self.variables())
        if (code := last.wait(120)) not in self.good_codes:
            self.world.findings.append(f"{self.name}: the import ended with {code}: {self.log.read_text()[-500:]}")

    def noted(self) -> tuple[set[tuple[str, str]], int]:
        """Return the spans whose end had returned, by trace and span, and the runs that bypassed the spool."""
        ends, bypassed = set(), 0
        for run in range(1, self.runs):
            log, aside = self.directory / f"run-{run}.log", self._aside(run)
            if "bypassed" in log.read_text():
                bypassed += 1
            elif aside.exists():
                lines = [line.split(" ") for line in aside.read_text().splitlines()]
                ends |= {(words[1], words[2]) for words in lines if len(words) == 4 and words[0] == "end"}
        return ends, bypassed

    def findings(self) -> Sequence[str]:
        """Each end that had returned is a row, and the spool is empty."""
        ends, _ = self.noted()
        rows = self.world.database.rows(
            "SELECT encode(trace_id, 'hex'), encode(span_id, 'hex') FROM agent_events WHERE part = 0"
        )
        missing = ends - set(rows)  # type: ignore[arg-type]
        left = sorted(file.name for file in self.spool.glob("*.spool"))
        return [
            *(
                [f"{len(missing)} of {len(ends)} ends that had returned to the durable agent are no rows"]
                * bool(missing)
            ),
            *([f"the spool holds {left}"] * bool(left)),
        ]


class AskingAgent(Process):
    """An agent that asks one question after the other, and waits for each answer at a gateway."""

    name = "asking agent"
    module = "tests.faults.soak.asking_agent"

    @property
    def gateway(self) -> Gateway:
        """Where it asks."""
        return self.world.gateways[-1]

    @property
    def database(self) -> Rows:
        """Where its questions are stored."""
        return self.world.database

    def of_people(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return what people were answered at the API, by question and person."""
        answers: dict[str, dict[str, dict[str, Any]]] = self.world.actors["people"].answers
        return answers

    @property
    def aside(self) -> Path:
        """Where it writes its answers."""
        return self.directory / "answers"

    def words(self) -> Sequence[str]:
        return str(self.world.seed), str(self.aside), self.gateway.url

    def variables(self) -> dict[str, str]:
        return {"SPANPOST_CONTROL__ENDPOINT": self.gateway.url, **self.machine.variables}

    def answers(self) -> dict[str, tuple[str, str]]:
        """Return the decision and the decider by question, as the agent got them."""
        lines = self.aside.read_text().splitlines() if self.aside.exists() else []
        return {name: (decision, by) for name, decision, by in (line.split(" ", 2) for line in lines)}

    def findings(self) -> Sequence[str]:
        """All who asked or pressed got one decision: the one in the database."""
        rows = self.database.rows("SELECT approval_id, state, decision, by, key::text FROM approvals")
        got: dict[str, set[tuple[str, str]]] = {name: {answer} for name, answer in self.answers().items()}
        for name, answers in self.of_people().items():
            got.setdefault(name, set()).update((each["decision"], each["by"]) for each in answers.values())
        wrong = []
        for name, answers in got.items():
            kept = [row[1:] for row in rows if row[0] == name]
            if {("decided", *answer) for answer in answers} != {row[:3] for row in kept}:
                wrong.append(f"{name}: agent and people got {sorted(answers)}, the database has {kept}")
        return wrong
