"""Tests of installations in every store: the newest stands, and a write after an older read changes
nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from spanpost.model.installations import Installed
from spanpost.testing.exercise_store import MakeStore
from spanpost.testing.exercised import Exercised

ENDS = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
LEASE = timedelta(seconds=30)


def an_installation(team: str = "T0222BBBB", encrypted: bytes = b"\x00one", *, client: str = "11.22") -> Installed:
    """Return an installation to be stored."""
    return Installed(
        client=client,
        team=team,
        enterprise="E1",
        team_name='Acme "& sons"',
        app_id="A1",
        bot="B1",
        bot_user="U1",
        scopes=("chat:write", "users:read"),
        by="UALICE",
        encrypted=encrypted,
        expires_at=ENDS,
    )


class ExerciseInstallations(Exercised):
    """Tests of installations in every store."""

    async def test_an_installation_replaces_the_one_before(self, make_store: MakeStore) -> None:
        """It is found by app and workspace, unchanged. Installed again, the newer one stands, with a later revision."""
        kept = (await make_store()).installations
        given = an_installation()
        first = await kept.save(given)
        assert first == await kept.find("11.22", "T0222BBBB")
        assert [getattr(first, f) for f in given.__struct_fields__[:11]] == [
            getattr(given, f) for f in given.__struct_fields__[:11]
        ]
        assert await kept.find("11.23", "T0222BBBB") is None
        assert await kept.find("11.22", "T0222") is None
        second = await kept.save(an_installation(encrypted=b"two"))
        await kept.save(an_installation("T0333"))
        await kept.save(an_installation(client="other"))
        assert second.revision > first.revision
        assert first.installed_at is not None
        assert second.installed_at is not None
        assert second.installed_at >= first.installed_at
        assert [(row.team, row.encrypted) for row in await kept.listed("11.22")] == [
            ("T0222BBBB", b"two"),
            ("T0333", b"\x00one"),
        ]

    async def test_a_removed_installation_has_no_token(self, make_store: MakeStore) -> None:
        """The row says when and why it was removed.

        Another removal, or a write of an older revision, changes nothing. Installed again it stands as new.
        """
        kept = (await make_store()).installations
        first = await kept.save(an_installation())
        again = await kept.save(an_installation(encrypted=b"two"))
        assert not await kept.remove("11.22", "T0222BBBB", "revoked", first.revision)
        assert await kept.remove("11.22", "T0222BBBB", "uninstalled", again.revision)
        assert not await kept.remove("11.22", "T0222BBBB", "revoked")
        assert not await kept.remove("11.22", "nobody", "revoked")
        row = await kept.find("11.22", "T0222BBBB")
        assert row is not None
        assert (row.encrypted, row.why, row.is_there, row.expires_at) == (b"", "uninstalled", False, None)
        assert row.removed_at is not None
        back = await kept.save(an_installation(encrypted=b"three"))
        assert (back.is_there, back.removed_at, back.why) == (True, None, "")

    async def test_one_process_fetches_the_next_token(self, make_store: MakeStore) -> None:
        """A second process is refused while the first refreshes the token, for a limited time.

        A write that is based on an older read is refused.
        """
        store = await make_store()
        kept = store.installations
        row = await kept.save(an_installation())
        assert await kept.claim(row, LEASE)
        assert not await kept.claim(row, LEASE)
        await self.pass_time(store, 31)
        assert await kept.claim(row, LEASE)
        assert await kept.renew(row, b"renewed", None)
        assert not await kept.renew(row, b"too late", None)
        newest = await kept.find("11.22", "T0222BBBB")
        assert newest is not None
        assert (newest.encrypted, newest.expires_at, newest.revision) == (b"renewed", None, row.revision + 1)
        assert await kept.claim(newest, LEASE)
        await kept.remove("11.22", "T0222BBBB", "revoked")
        assert not await kept.renew(newest, b"back from the dead", None)
        assert not await kept.claim(newest, LEASE)
