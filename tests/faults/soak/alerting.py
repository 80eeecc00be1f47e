"""A genuine Alertmanager before the gateways: alerts begin and end, and each is one row, one task and one message."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from spanpost.store.connections import DRIVER_ERRORS
from tests.acceptance.gateway_process import request
from tests.conftest import find
from tests.eventually import eventually, free_port
from tests.faults.soak.actors import Threads
from tests.faults.soak.world import PORTS, World, choice_of, now, pause

#: Groups of alerts, which Alertmanager sends to all gateways, again and again.
GROUPS = 3
SEVERITIES = ("critical", "warning", "info")
#: Longest time until the gateways have recorded the last alerts, and until Alertmanager has nothing left to send.
WITHIN = 180.0


@dataclass
class SentAlert:
    """An alert as a monitor gives it to Alertmanager, until it is over."""

    name: str
    labels: dict[str, str]
    #: It has a notification of its own, which goes to one gateway and is not repeated.
    is_alone: bool
    #: It fires for so long at least.
    lasts: timedelta
    began: datetime
    ended: datetime | None = None

    def as_posted(self) -> dict[str, Any]:
        """Return it as Prometheus posts it."""
        ends = self.ended or datetime.now(UTC) + timedelta(hours=1)
        annotations = {"summary": f"the summary of {self.name}", "runbook_url": "https://example.org/runbook"}
        times = {"startsAt": self.began.isoformat(), "endsAt": ends.isoformat()}
        return {"labels": self.labels | {"alertname": self.name}, "annotations": annotations, **times}


class Relay:
    """What Alertmanager posts to: the gateways, by their numbers. It notes what they answer."""

    def __init__(self, world: World) -> None:
        #: How often a gateway answered 200 to a webhook that says that an alert is resolved, by the alert's name.
        self.answered = Counter[str]()
        #: Other answers than 200 and 503, after which Alertmanager sends nothing again.
        self.wrong: list[str] = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                url = f"{world.gateways[int(self.path[1:])].url}/alerts/alertmanager"
                # Alertmanager or a gateway is killed, or waits no longer: no answer is passed on as none.
                with suppress(OSError, http.client.HTTPException, ValueError):
                    body = self.rfile.read(int(self.headers["content-length"]))
                    alerts = json.loads(body)["alerts"]
                    status, said = request(url, body, timeout=15, content_type="application/json")
                    relay.note(status, said, alerts)
                    self.send_response(status)
                    self.send_header("content-length", str(len(said)))
                    self.end_headers()
                    self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                pass

        self._lock = threading.Lock()
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        world.on_end(server.shutdown)

    def note(self, status: int, said: bytes, alerts: Sequence[dict[str, Any]]) -> None:
        """Note an answer to a webhook."""
        with self._lock:
            if status == 200:
                self.answered.update(each["labels"]["alertname"] for each in alerts if each["status"] == "resolved")
            elif status != 503:
                self.wrong.append(f"Alertmanager was answered {status}: {said[:200]!r}")


class AlertSender(Threads):
    """Alertmanager, and a monitor that posts to it as Prometheus does: all that fires, and what ended.

    A group goes to all gateways, and again every two seconds: it must not double. One of its alerts fires until the end
    of the run, because Alertmanager only says that an alert is over where it knows that it said the group fires.
    An alert that is alone goes to one gateway, once: an answer of 200, which `Relay` notes, means that it is recorded.
    Where Alertmanager received no answer, and the alert ended meanwhile, it never says so.
    """

    name = "alertmanager"
    needs: ClassVar[Sequence[str]] = ("alertmanager",)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._chance = choice_of(world.seed, self.name)
        self.alerts: list[SentAlert] = []
        #: By name of the recorded alerts: whether it is resolved.
        self._rows: dict[str, bool] = {}

    def start(self) -> None:
        self.directory = self.world.directory / self.name
        self.directory.mkdir()
        self._config, self._address = self.directory / "alertmanager.yml", f"127.0.0.1:{free_port(PORTS)}"
        self._relay = Relay(self.world)
        hooks = [{"url": f"{self._relay.url}/{number}"} for number, _ in enumerate(self.world.gateways)]
        config = {
            "route": {
                "receiver": "all",
                "group_by": ["group"],
                "group_wait": "0s",
                "group_interval": "500ms",
                "repeat_interval": "2s",
                "routes": [
                    {"matchers": [f"to={n}"], "receiver": str(n), "group_by": ["..."], "repeat_interval": "24h"}
                    for n in range(len(hooks))
                ],
            },
            "receivers": [
                {"name": "all", "webhook_configs": hooks},
                *({"name": str(number), "webhook_configs": [hook]} for number, hook in enumerate(hooks)),
            ],
        }
        self._config.write_text(json.dumps(config))
        self.launch()
        for number in range(GROUPS):
            self._add({"group": str(number)})
        self.begin(self._monitor)

    def launch(self) -> None:
        """Start it, also after a kill, with what it stored before."""
        command = [
            find("alertmanager"), f"--config.file={self._config}", f"--storage.path={self.directory / 'data'}",
            f"--web.listen-address={self._address}", "--cluster.listen-address=", "--data.maintenance-interval=1s",
        ]  # fmt: skip
        self.process = self.world.launch(command, self.directory / "alertmanager.log")

    def kill(self) -> None:
        """Kill it with -9. It may forget what it sent in its last second, and all alerts."""
        self.process.kill()
        self.process.wait()

    def _add(self, where: dict[str, str]) -> None:
        name, labels = f"Alert{len(self.alerts):05}", where | {"severity": self._chance.choice(SEVERITIES)}
        lasts = timedelta(seconds=self._chance.uniform(0.0, 8.0))
        self.alerts.append(SentAlert(name, labels, "to" in where, lasts, datetime.now(UTC)))

    def _monitor(self) -> None:
        while not self.world.closing.is_set():
            for _ in range(self._chance.randrange(3)):
                alone = {"to": str(self._chance.randrange(len(self.world.gateways)))}
                grouped = {"group": str(self._chance.randrange(GROUPS))}
                self._add(self._chance.choice([alone, grouped]))
            for alert in self.alerts[GROUPS:]:
                # What ends before Alertmanager could say that it fires is never sent, unless its group fires.
                is_known = not alert.is_alone or alert.name in self._rows
                if is_known and datetime.now(UTC) - alert.began > alert.lasts:
                    alert.ended = alert.ended or datetime.now(UTC)
            self._turn()
            self.world.closing.wait(1.0)

    def _turn(self) -> None:
        """Look which alerts are recorded, and post all that are not recorded as resolved."""
        with suppress(OSError, *DRIVER_ERRORS):
            rows = self.world.database.rows("SELECT name, ends_at IS NOT NULL FROM alerts")
            self._rows |= dict(rows)
        open_ = [alert.as_posted() for alert in self.alerts if not self._is_over(alert)]
        with suppress(OSError, http.client.HTTPException):
            url, headers = f"http://{self._address}/api/v2/alerts", {"content-type": "application/json"}
            status, said = request(url, json.dumps(open_).encode(), timeout=5, **headers)
            if status != 200:
                self.world.findings.append(f"Alertmanager answered {status}: {said[:200]!r}")

    def close(self) -> None:
        """End all alerts, those last by which each group fires, until Alertmanager has nothing left to send."""
        super().close()
        self._await("recorded", lambda alert: alert.name in self._rows)
        for ending in (self.alerts[GROUPS:], self.alerts):
            for alert in ending:
                alert.ended = alert.ended or datetime.now(UTC)
            if not self._await("resolved", lambda alert: not alert.ended or alert.is_alone or self._is_over(alert)):
                break
        try:
            eventually(self._groups, lambda count: count == 0, WITHIN)
        except AssertionError:
            self.world.findings.append(f"Alertmanager still sends {WITHIN:g} s after the last fault: {self._log()}")
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.world.findings.append("Alertmanager does not end")
        else:
            self.world.findings += [f"Alertmanager ended with {code}: {self._log()}"] * bool(code)

    def _await(self, what: str, is_so: Callable[[SentAlert], bool]) -> bool:
        """Post until it is so of each alert; return whether it is."""
        until = now() + WITHIN
        while waiting := [alert for alert in self.alerts if not is_so(alert)]:
            if now() > until:
                late = f"{len(waiting)} alerts are not {what} {WITHIN:g} s after the last fault"
                self.world.findings.append(f"{late}: {waiting[:3]}: {self._log()}")
                return False
            self._turn()
            pause(threading.Event(), 0.5)
        return True

    def _is_over(self, alert: SentAlert) -> bool:
        """Return whether it is recorded as resolved."""
        return self._rows.get(alert.name, False)

    def _groups(self) -> int:
        """Return how many groups have an alert, or had one in the last half minute; -1: it does not answer."""
        pause(threading.Event(), 0.5)  # leaves processor time to those who still work
        with suppress(OSError), urllib.request.urlopen(f"http://{self._address}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("alertmanager_dispatcher_agg"))
        return -1

    def _log(self) -> str:
        return (self.directory / "alertmanager.log").read_text()[-800:]

    def findings(self) -> Sequence[str]:
        """Each alert is one row, one task and one message, which say that it is resolved."""
        rows, tasks, wrong = Counter[str](), Counter[str](), list[str]()
        rows.update(name for (name,) in self.world.database.rows("SELECT name FROM alerts WHERE ends_at IS NOT NULL"))
        sql = "SELECT name FROM agent_tasks WHERE type = 'alert' AND status = 'complete'"
        tasks.update(name for (name,) in self.world.database.rows(sql))
        [(in_rows, in_tasks)] = self.world.database.rows(
            "SELECT (SELECT count(*) FROM alerts), (SELECT count(*) FROM agent_tasks WHERE type = 'alert')"
        )
        channels = self.world.slack.state()["channels"].values()
        roots = [m["text"] for each in channels for m in each if m.get("thread_ts", m["ts"]) == m["ts"]]
        for alert in self.alerts:
            shown = [text for text in roots if f" · {alert.name}: " in text]
            says = [len(shown), sum("Resolved · " in text for text in shown), rows[alert.name], tasks[alert.name]]
            may_fire = alert.is_alone and not self._relay.answered[alert.name]
            if says != [1, 1, 1, 1] and not (may_fire and says == [1, 0, 0, 0]):
                wrong.append(f"{alert.name} {alert.labels}: messages, resolved, rows, tasks: {says}: {shown}")
        if not in_rows == in_tasks == len(self.alerts):
            wrong.append(f"{len(self.alerts)} alerts are {in_rows} rows and {in_tasks} tasks")
        return [
            *self._relay.wrong,
            *[f"{len(wrong)} alerts are not one message of a resolved alert: {wrong[:3]}"] * bool(wrong),
        ]

    def notes(self) -> Sequence[str]:
        sent, silent = self._relay.answered.total(), sum(not self._is_over(alert) for alert in self.alerts)
        said = f"{sent} times answered that one is resolved, {silent} whose end Alertmanager never said"
        return (f"Alertmanager: {len(self.alerts)} alerts, {said}",)
