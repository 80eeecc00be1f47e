"""The API's question is what a person reads; unreadable parts are reported, and names hide nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.errors import reason_of
from tests.interactions.api.served import Served
from tests.interactions.api.test_command_line import run

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]

KEY = "-----BEGIN PRIVATE KEY----- DROP-ALL-TABLES -----END PRIVATE KEY-----"


def test_a_question_by_itself(served: Served) -> None:
    """A question is found by key or id, whole, with the caller's acts; another tenant's and a missing one
    are not found.
    """
    asked = served.question("one/by itself", detail="line\n" * 300 + "the end")
    for ref in (asked["key"], "one/by itself"):
        one = served.as_of("approver").get(f"/api/approvals/{ref}").raise_for_status().json()
        assert one["detail"] == "line\n" * 300 + "the end"
        assert (one["is_whole"], one["hidden"], one["acts"], one["task_name"]) == (
            True,
            [],
            ["approve", "deny"],
            asked["task_name"],
        )
        assert served.as_of("viewer").get(f"/api/approvals/{ref}").json()["acts"] == []
    assert served.client("spt_theirs").get(f"/api/approvals/{asked['key']}").status_code == 404
    assert served.as_of("viewer").get("/api/approvals/nobody").status_code == 404


@pytest.mark.parametrize(
    ("id", "more", "why"),
    [
        ("hidden-1", {"detail": f"Rotate {KEY}"}, ["secret"]),
        ("hidden-2", {"detail": "x" * 9000}, ["cut"]),
        ("hidden-3", {"detail": "ok" + "".join(chr(0xE0000 + ord(ch)) for ch in "drop all")}, ["invisible"]),
        ("hidden-4", {"options": ["yes", "y\u200bes"]}, ["alike"]),
        ("hidden-5", {"detail": "[redacted:aws_key:20:1f3a]"}, ["secret"]),
    ],
)
def test_what_is_hidden_is_said(served: Served, id: str, more: dict[str, object], why: list[str]) -> None:
    """A question that is not whole says why; it can only be denied; text that imitates a redacted secret is
    nowhere.
    """
    served.question(id, **more)
    answer = served.as_of("approver").get(f"/api/approvals/{id}")
    one = answer.json()
    assert (one["is_whole"], one["hidden"], one["acts"]) == (False, why, ["deny"])
    assert "DROP-ALL-TABLES" not in answer.text
    path = f"/api/approvals/{one['key']}/decision"
    for word in one["options"][:1] or ["approve"]:
        refused = served.as_of("approver").post(path, json={"decision": word})
        assert (refused.status_code, reason_of(refused.json())) == (409, "hidden")
    assert served.as_of("approver").post(path, json={"decision": "deny"}).json()["decision"] == "deny"


def test_names_hide_nothing(served: Served) -> None:
    """Zero-width characters, bidi overrides, tags and blank letters are in no name or text; ids are exact."""
    odd = "ad\u200bm\u202ein\u2060\ufeff\U000e0041\u3164"
    task = served.task(f"{odd} 1", gen_ai__agent__name=odd, agent__task__id="id\u200b1", agent__action=odd)
    client = served.as_of("viewer")
    whole = client.get(f"/api/tasks/{task['uid']}").json()
    assert (whole["name"], whole["agent_name"], whole["action"]) == ("admin  1", "admin ", "admin ")
    assert whole["task_id"] == "id\u200b1"
    assert client.get("/api/tasks/id\u200b1").json()["uid"] == task["uid"]
    served.question("odd-1", detail=odd)
    out = (
        client.get(f"/api/tasks/{task['uid']}/timeline").text
        + client.get("/api/tasks").text
        + client.get("/api/approvals").text
    )
    for hidden in ("\\u200b", "\\u202e", "\\u2060", "\\ufeff", "\\udb40", "\\u3164"):
        assert hidden not in out.replace('"task_id":"id\\u200b1"', "").replace("id\\u200b1", "")


def test_the_command_line_shows_a_question_whole(served: Served, api_dsn: str, tmp_path: Path) -> None:
    """The list marks questions that it cuts; `show` prints them whole, in the database and at a gateway."""
    served.question("whole-1", detail="line\n" * 30 + "Approved by Mina")
    served.question("whole-2", detail=f"Rotate {KEY}")
    served.question("whole-3")
    places = ({"DATABASE_URL": api_dsn}, {"SPANPOST_URL": served.url, "SPANPOST_TOKEN": "spt_viewer"})
    for place in places:
        code, out, why = run(tmp_path, "approvals", "list", **place)
        rows = {id: next(row for row in out.splitlines() if id in row) for id in ("whole-1", "whole-2", "whole-3")}
        assert (code, ["[…]" in row for row in rows.values()], "approvals show" in why) == (
            0,
            [True, True, False],
            True,
        )
        code, out, _ = run(tmp_path, "approvals", "show", "whole-1", **place)
        assert (code, out.count("  │ line\n"), "  │ Approved by Mina\n" in out, "hidden" in out) == (
            0,
            30,
            True,
            False,
        )
        code, out, _ = run(tmp_path, "approvals", "show", "whole-2", **place)
        assert (code, "Part of this question is hidden" in out, "DROP-ALL" in out) == (0, True, False)
    code, _, why = run(tmp_path, "approvals", "show", "nobody", DATABASE_URL=api_dsn)
    assert (code, "approvals list" in why) == (2, True)
