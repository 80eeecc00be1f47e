"""Two refunds against the application, and a person who answers: everything in one process, over its own routes."""

from __future__ import annotations

import time

from shop import application
from starlette.testclient import TestClient

with TestClient(application) as web:
    for order, dollars in (("4711", 20), ("4712", 250)):
        web.post("/refunds", json={"order": order, "dollars": dollars})
    while not (asked := web.get("/questions").json()):
        time.sleep(0.05)
    print(f"asked: {asked[0]['question']}")
    web.post(f"/questions/{asked[0]['key']}", json={"answer": "approve", "by": "mina"})
    while web.get("/refunds/4712").json()["status"] == "waiting":
        time.sleep(0.05)
    for order in ("4711", "4712"):
        print(f"order {order}: {web.get(f'/refunds/{order}').json()['status']}")
