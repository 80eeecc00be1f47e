"""The Slack app: Bolt reads payloads from HTTP or a socket; a few listeners turn them into acts.

An act is recorded before Slack is answered, if that takes less than 2.5 seconds. If it takes longer, the
person gets the answer that the outcome is uncertain. An event is acknowledged only once it is recorded;
otherwise Slack sends it again.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal

import msgspec
from slack_bolt.async_app import AsyncApp
from slack_bolt.context.async_context import AsyncBoltContext
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse

from spanpost.interactions.keeper import Keeper
from spanpost.interactions.protocols import PersonMessage
from spanpost.interactions.requested_acts import ActOutcome
from spanpost.interactions.slack import payloads, phrases, threads
from spanpost.interactions.slack.announcements import Announcements
from spanpost.interactions.slack.commands import ACTS, Commands
from spanpost.interactions.slack.decisions import Comments, pressed
from spanpost.interactions.slack.departures import departed
from spanpost.interactions.slack.dialogues import submitted
from spanpost.interactions.slack.entities import Entities
from spanpost.interactions.slack.guard import SlackRefused
from spanpost.interactions.slack.homes import Homes
from spanpost.interactions.slack.installations import App, Everywhere, Installation, authorize, choose
from spanpost.interactions.slack.lines import SlackAnswer
from spanpost.interactions.slack.lists import MORE
from spanpost.interactions.slack.payloads import PREFIX, Click
from spanpost.interactions.slack.phrases import Spoken
from spanpost.interactions.slack.responses import PayloadOrigin, SlackAnswered, answer, first_line, update
from spanpost.interactions.slack.unfurls import Unfurls
from spanpost.interactions.slack.web import Trouble, silent
from spanpost.model.errors import StoreUnavailable
from spanpost.model.interventions import Result
from spanpost.model.tasks import Task

log = logging.getLogger("spanpost.interactions")
#: Slack waits three seconds, including the network.
ANSWER: Final = 2.5
#: Refusals that are remembered, so that a thread is not answered with the same refusal again and again.
_MOST_REFUSALS: Final = 5_000
_OURS: Final = re.compile("^" + re.escape(PREFIX))
_MORE: Final = re.compile(f"^({re.escape(MORE)}|{re.escape(phrases.RUN)}):")
_ANY: Final = re.compile("")
Replies = Literal["all", "mentions", "off"]


class SlackApp:
    """Handles payloads from Slack, however they arrive."""

    def __init__(
        self,
        installations: Sequence[Installation],
        *,
        comments: Comments = "deny",
        replies: Replies = "all",
        conceal: Callable[[Task], Task] = lambda task: task,
        answer: float = ANSWER,
        everywhere: Everywhere | None = None,
        entities: Entities | None = None,
        announcements: Announcements | None = None,
        unfurls: Unfurls | None = None,
        homes: Homes | None = None,
    ) -> None:
        self.installations = tuple(installations)
        #: The app that people may install in further workspaces.
        self.everywhere = everywhere
        self._comments = comments
        self._replies = replies
        self._conceal = conceal
        self._entities = entities
        self._announcements = announcements
        self._unfurls = unfurls
        self._homes = homes or Homes("", conceal)
        self._answer = answer
        self._keeper = Keeper()
        self._refusals: set[tuple[str, ...]] = set()
        self._bolt = self._make_bolt()

    def _make_bolt(self) -> AsyncApp:
        # The signature was verified before (`guard`); the rules refuse bots and ourselves. Bolt's own
        # checks break our guarantees: they answer 500 to a malformed header, and accept a replay three
        # times.
        app = AsyncApp(
            # Bolt sets the level of the logger of this name, so it must not be ours.
            name="slack_bolt.spanpost",
            logger=silent(),
            process_before_response=True,
            authorize=authorize,
            request_verification_enabled=False,
            ssl_check_enabled=False,
            ignoring_self_events_enabled=False,
            attaching_function_token_enabled=False,
            attaching_conversation_kwargs_enabled=False,
        )
        app.block_action(_MORE)(self._listener(self._on_more))
        app.block_action(_OURS)(self._listener(self._on_click))
        app.block_action(_ANY)(self._listener(self._on_other))
        app.view(_OURS)(self._listener(self._on_submission))
        app.event("message")(self._listener(self._on_message))
        app.event("agent_session_stopped")(self._listener(self._on_stop))
        app.event("link_shared")(self._listener(self._on_links))
        app.event("app_home_opened")(self._listener(self._on_home))
        app.event("app_mention")(self._listener(self._on_mention))
        app.command(_ANY)(self._listener(self._on_command))
        return app

    @staticmethod
    def _listener(
        handle: Callable[[dict[str, Any], PayloadOrigin], Awaitable[BoltResponse]],
    ) -> Callable[..., Awaitable[BoltResponse]]:
        async def listen(body: dict[str, Any], context: AsyncBoltContext) -> BoltResponse:
            try:
                return await handle(body, context["origin"])
            except Exception as error:
                log.error("a payload from Slack could not be handled: %s: %s", type(error).__name__, first_line(error))
                return answer(503, "fault")

        return listen

    @property
    def apps(self) -> tuple[App, ...]:
        """All apps that a request may be for."""
        return (*self.installations, self.everywhere) if self.everywhere is not None else self.installations

    async def handle(self, candidates: Sequence[App], body: dict[str, Any], *, took: float = 0.0) -> SlackAnswered:
        """Handle a payload that is proven to be for one of these apps. Raises nothing.

        `took`: seconds of the time for an answer that are used up.
        """
        until = asyncio.get_running_loop().time() + self._answer - took
        try:
            if (said := payloads.departure(body)) is not None:
                return await departed(candidates, body, *said)
            context: dict[str, Any] = {}
            if body.get("type") != "url_verification":
                installation, team = await choose(candidates, body)
                context["origin"] = PayloadOrigin(installation=installation, team=team, until=until)
            response = await self._bolt.async_dispatch(AsyncBoltRequest(body=body, mode="socket_mode", context=context))
        except SlackRefused as refused:
            return SlackAnswered(status=refused.status, word=refused.why)
        except Trouble as trouble:
            log.warning("the workspace of a request could not be looked up in Slack: %s", trouble)
            return SlackAnswered(status=503, word="slack")
        except StoreUnavailable:
            return SlackAnswered(status=503, word="unavailable")
        except Exception:  # a payload that Bolt cannot read
            return SlackAnswered(status=400, word="payload")
        word = (response.headers.get("x-spanpost") or [""])[0]
        if not word and response.status == 404:
            return SlackAnswered(status=200, word="ignored")
        if not word and response.status >= 500:
            return SlackAnswered(status=400, word="payload")
        content_type = (response.headers.get("content-type") or ["text/plain"])[0]
        return SlackAnswered(
            status=response.status, word=word or "greeting", body=response.body or "", content_type=content_type
        )

    async def close(self, seconds: float = 2.0) -> None:
        """Finish pending work, and close the connections."""
        await self._keeper.close(seconds)
        for one in self.apps:
            await one.web.close()
        if self.everywhere is not None:
            await self.everywhere.finds.close()

    async def _on_other(self, body: dict[str, Any], origin: PayloadOrigin) -> BoltResponse:
        return answer(200, "ignored")  # a link's button: Slack reports the press, nothing is to be done

    async def _on_click(self, body: dict[str, Any], origin: PayloadOrigin) -> BoltResponse:
        installation = origin.installation
        click = payloads.click(body, origin.team)
        if click is None:
            url, interactions = body.get("response_url"), installation.interactions
            if isinstance(url, str):
                self._keeper.begin(
                    installation.web.respond(url, interactions.speaks(None, ()).say("interactions.unknown"))
                )
            return answer(200, "unreadable")
        me = await installation.whoami()
        is_ours = bool(click.author) and click.author == me.bot
        click = msgspec.structs.replace(click, message=msgspec.structs.replace(click.message, is_ours=is_ours))
        locale = installation.interactions.locale(None, click.message)

        async def work() -> None:
            try:
                await self._press(installation, click)
            except StoreUnavailable:
                self._send_answer(installation, click, locale.say("interactions.unsure"))
            except Exception as error:
                log.error("a click could not be handled: %s: %s", type(error).__name__, first_line(error))
                self._send_answer(installation, click, locale.say("interactions.unsure"))

        if not await self._keeper.within(work(), origin.until):
            self._send_answer(installation, click, locale.say("interactions.late"))
            return answer(200, "late")
        return answer(200, "click")

    async def _press(self, installation: Installation, click: Click) -> None:
        if click.is_home:
            click = await self._homes.placed(installation, click)
        answered = await pressed(installation.interactions, click, self._comments, self._conceal)
        if answered.view is not None:
            if not await self._open(installation, click.trigger, answered.view):
                self._send_answer(installation, click, answered.locale.say("interactions.no_dialogue"))
        elif answered.answer or click.is_home:
            self._send_answer(installation, click, answered.answer)

    async def _open(self, installation: Installation, trigger: str, view: dict[str, Any]) -> bool:
        """Open a dialogue; False if Slack does not."""
        try:
            await installation.web.call("views.open", trigger_id=trigger, view=view)
        except Trouble as trouble:
            log.warning("a dialogue could not be opened: %s", trouble)
            return False
        return True

    async def _on_submission(self, body: dict[str, Any], origin: PayloadOrigin) -> BoltResponse:
        sent = payloads.submission(body, origin.team)
        if sent is None:
            return answer(200, "unreadable")
        interactions, responses = origin.installation.interactions, list[BoltResponse]()
        locale = interactions.speaks(None, [str(sent.meta.get("c"))])

        async def work() -> None:
            responses.append(await submitted(interactions, sent, locale))

        if not await self._keeper.within(work(), origin.until):
            return update(locale.say("interactions.late"), "late", locale)
        if sent.meta.get("h") is True:
            self._keeper.begin(self._homes.publish(origin.installation, sent, sent.team))
        return responses[0]

    async def _on_message(self, body: dict[str, Any], origin: PayloadOrigin) -> BoltResponse:
        installation = origin.installation
        if self._announcements is not None and (said := payloads.announcement(body, origin.team)) is not None:
            try:
                is_ours = (await installation.whoami()).bot in said.apps
                is_alert = not is_ours and await self._announcements.hear(said, installation.interactions.tenant)
            except StoreUnavailable:
                return answer(503, "unavailable")  # Slack sends it again
            return answer(200, "alert" if is_alert else "ignored")
        reply = payloads.reply(body, origin.team)
        if reply is None or self._replies == "off":
            return answer(200, "ignored")
        me = await installation.whoami()
        text = reply.text.replace(f"@{me.bot_user}", "").strip() if me.bot_user else reply.text
        is_to_another_app = bool(reply.parent) and bool(me.bot_user) and reply.parent != me.bot_user
        lacks_mention = self._replies == "mentions" and f"<@{me.bot_user}>" not in reply.raw
        if is_to_another_app or lacks_mention or reply.user == me.bot_user or not text:
            return answer(200, "ignored")
        # One of our threads without a receipt was begun a moment ago, or is not a task's.
        is_known = reply.parent != me.bot_user or not reply.parent or threads.has_stored_receipt(reply.root)
        found: list[tuple[bool, ActOutcome | None]] = []

        async def work() -> None:
            found.append(
                await threads.do(installation.interactions, reply.root, threads.said(reply, text), is_known=is_known)
            )

        if not await self._keeper.within(work(), origin.until) or not found[0][0]:
            return answer(503, "unavailable")  # Slack sends it again
        outcome = found[0][1]
        if outcome is None:
            return answer(200, "ignored")
        if outcome.answer and self._is_new((reply.user, reply.root.channel, reply.root.ts, str(outcome.result))):
            self._keeper.begin(installation.post_ephemeral(reply.root, reply.root.ts, reply.user, outcome.answer))
        return answer(200, "message")

    def _is_new(self, refusal: tuple[str, ...]) -> bool:
        if len(self._refusals) >= _MOST_REFUSALS:
            self._refusals.clear()
        is_new = refusal not in self._refusals
        self._refusals.add(refusal)
        return is_new

    async def _on_stop(self, body: dict[str, Any], origin: PayloadOrigin) -> BoltResponse:
        """Take Slack's own *Stop* as a cancel of the thread's task, then set the session's status."""
        installation, stop = origin.installation, payloads.stop(body, origin.team)
        if stop is None:
            return answer(200, "ignored")
        found: list[tuple[bool, ActOutcome | None]] = []

        async def work() -> None:
            is_known = threads.has_stored_receipt(stop.root)
            found.append(
                await threads.do(installation.interactions, stop.root, threads.stopped(stop), is_known=is_known)
            )

        if not await self._keeper.within(work(), origin.until) or not found[0][0]:
            return answer(503, "unavailable")  # Slack sends it again
        outcome = found[0][1]
        if outcome is not None and outcome.answer:
            self._keeper.begin(installation.post_ephemeral(stop.root, stop.root.ts, stop.user, outcome.answer))
        # If refused, the task continues and the button stays.
        if outcome is None or outcome.result is not Result.REFUSED:
            self._keeper.begin(threads.rest(installation.web, stop.root))
        return answer(200, "stop" if outcome is not None else "ignored")

    async def _on_links(self, body: dict[str, Any], origin: PayloadOrigin) -> BoltResponse:
        if self._unfurls is not None:
            self._keeper.begin(self._unfurls.hear(origin.installation, body, origin.team))
        return answer(200, "links")

    async def _on_home(self, body: dict[str, Any], origin: PayloadOrigin) -> BoltResponse:
        if (opened := payloads.opened_home(body, origin.team)) is None:
            return answer(200, "ignored")
        self._keeper.begin(self._homes.publish(origin.installation, opened, origin.team))
        return answer(200, "home")

    async def _on_command(self, body: dict[str, Any], origin: PayloadOrigin) -> BoltResponse:
        return await self._on_spoken(phrases.command(body, origin.team), "command", origin)

    async def _on_more(self, body: dict[str, Any], origin: PayloadOrigin) -> BoltResponse:
        return await self._on_spoken(phrases.goes_on(body, origin.team), "more", origin)

    async def _on_spoken(self, spoken: Spoken | None, word: str, origin: PayloadOrigin) -> BoltResponse:
        if spoken is None:
            return answer(200, "unreadable")
        await self._do_command(origin, spoken)
        return answer(200, word)

    async def _on_mention(self, body: dict[str, Any], origin: PayloadOrigin) -> BoltResponse:
        spoken = phrases.mention(body, origin.team, (await origin.installation.whoami()).bot_user)
        if spoken is None:
            return answer(200, "ignored")
        thread = phrases.place(spoken)
        try:
            # In a task's thread it is meant for the agent, and also arrives as a message.
            if thread is not None and await origin.installation.interactions.task_of_message(thread) is not None:
                return answer(200, "ignored")
        except StoreUnavailable:
            return answer(503, "unavailable")  # Slack sends it again
        await self._do_command(origin, spoken)
        return answer(200, "mention")

    async def _do_command(self, origin: PayloadOrigin, spoken: Spoken) -> None:
        """Do a command. One that changes something is recorded before Slack is answered, if there is time."""
        installation = origin.installation
        locale = installation.interactions.speaks(None, (spoken.channel, spoken.channel_name))
        commands = Commands(installation.interactions, installation.web, self._conceal, locale, self._entities)

        async def work() -> None:
            try:
                reply = await commands.answer(spoken)
            except StoreUnavailable:
                reply = SlackAnswer(
                    text=locale.say("interactions.unsure" if spoken.word in ACTS else "interactions.away")
                )
            except Exception as error:
                log.error("a command could not be handled: %s: %s", type(error).__name__, first_line(error))
                reply = SlackAnswer(text=locale.say("interactions.uncertain"))
            if reply is not None and reply.view is not None:
                if await self._open(installation, spoken.trigger, reply.view):
                    return
                reply = SlackAnswer(text=locale.say("command.no_dialogue"))
            if reply is not None:
                self._keeper.begin(self._say(installation, spoken, reply))

        if spoken.word in ACTS:
            await self._keeper.within(work(), origin.until)  # late results are sent when they are ready
        else:
            self._keeper.begin(work())

    async def _say(self, installation: Installation, spoken: Spoken, reply: SlackAnswer) -> None:
        if spoken.response_url and await installation.web.respond(spoken.response_url, reply.text, reply.blocks):
            return
        place = PersonMessage(team=spoken.team, channel=spoken.channel, ts="")
        await installation.post_ephemeral(place, spoken.thread, spoken.user, reply.text, reply.blocks)

    def _send_answer(self, installation: Installation, click: Click, text: str) -> None:
        """Answer the person who pressed, and only them, after Slack was answered."""

        if click.is_home:
            self._keeper.begin(self._homes.publish(installation, click, click.message.team, said=text))
            return

        async def tell() -> None:
            if not await installation.web.respond(click.response_url, text):
                await installation.post_ephemeral(click.message, click.thread, click.user, text)

        self._keeper.begin(tell())
