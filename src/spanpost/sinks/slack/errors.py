"""Meaning of Slack's answers: the one table from its error codes to the next step, each with a cure for an
operator.

Codes: the errors of each method in Slack's reference (docs.slack.dev/reference/methods, as kept by
slack-ruby/slack-api-ref, 2026-08). A code that is not in the table is classified by its form, `_by_shape`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from spanpost.model.errors import DeliveryError, DeliveryRefused, DeliveryUncertain, Rejected, Throttled, Unavailable
from spanpost.routing.retries import from_seconds
from spanpost.sinks.slack.calls import Response, SlackPlace, SlackRequest
from spanpost.sinks.slack.rates import DELETE, EDIT, POST, RECONCILE
from spanpost.text.sanitise import line

#: Slack refused the blocks: the message is sent again in plain sections.
BLOCKS: Final = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "block_mismatch", "invalid_attachments"}
    | {"attachment_payload_limit_exceeded", "too_many_attachments"}
)
#: The message to edit, or the thread to reply in, no longer exists.
GONE: Final = frozenset({"message_not_found", "thread_not_found"})
#: The message exists and may not be edited (any more).
CLOSED: Final = frozenset({"edit_window_closed", "cant_update_message"})

#: Seconds: the wait without a `Retry-After`, and the bounds of one.
RETRY_AFTER: Final = 30.0
LEAST, MOST = 1.0, 3_600.0

_THROTTLED: Final = frozenset({"ratelimited", "rate_limited"})
#: It may have happened: Slack read the request and failed. (fatal_error: "some aspect of the operation
#: succeeded".)
_UNKNOWN: Final = frozenset(
    {"internal_error", "fatal_error", "request_timeout", "service_unavailable"}
    | {"duplicate_message_not_found", "duplicate_channel_not_found"}
)
#: Nothing happened, and it passes by itself. It concerns one channel and is not Slack's fault.
_PASSING: Final = frozenset({"external_channel_migrating", "streaming_state_conflict"})

_INSTALL = "install the app in the workspace again and set SPANPOST_SLACK__TOKEN to its new bot token"
_ASK_ADMIN = "ask an administrator of the workspace to let the app post"
#: The whole workspace is blocked until an operator fixes it.
_WORKSPACE: Final[dict[str, str]] = {
    "token_revoked": f"the token was revoked: {_INSTALL}",
    "account_inactive": f"the app's account was removed: {_INSTALL}",
    "invalid_auth": "the token is wrong, or this machine's address is not allowed: set SPANPOST_SLACK__TOKEN "
    "to the app's bot token (xoxb-...)",
    "not_authed": "no token arrived: set SPANPOST_SLACK__TOKEN to the app's bot token (xoxb-...)",
    "token_expired": f"the token has expired; turn token rotation off for the app, {_INSTALL}",
    "not_allowed_token_type": "this kind of token may not post: set SPANPOST_SLACK__TOKEN to the app's bot "
    "token (xoxb-...)",
    "is_bot": "this is a legacy bot's token: make an app and set SPANPOST_SLACK__TOKEN to its bot token (xoxb-...)",
    "missing_scope": "give the app the scope {needed} (OAuth & Permissions) and install it again",
    "org_login_required": "the workspace moves to an Enterprise organization: wait until it has, then install "
    "the app again",
    "team_added_to_org": "the workspace moves to an Enterprise organization: wait until it has, then install "
    "the app again",
    "enterprise_is_restricted": "the token is an organization's: set SPANPOST_SLACK__TOKEN to that of one workspace",
    "team_access_not_granted": f"the app has no access to this workspace: {_ASK_ADMIN}",
    "app_access_restricted": f"the app is restricted: {_ASK_ADMIN}",
    "ekm_access_denied": f"an administrator has suspended posting: {_ASK_ADMIN}",
    "accesslimited": "Slack may not be called from this network: call from another, or ask an administrator "
    "to allow its addresses",
    "two_factor_setup_required": "the account must set up two-factor authentication first",
    "metadata_must_be_sent_from_app": "this is not an app's token: set SPANPOST_SLACK__TOKEN to an app's bot "
    "token (xoxb-...)",
    "unknown_method": "SPANPOST_SLACK__BASE_URL does not lead to Slack's Web API: unset it",
    "method_deprecated": "Slack has retired this method: upgrade spanpost",
    "deprecated_endpoint": "Slack has retired this method: upgrade spanpost",
}
_INVITE = "invite the app: /invite @<app> in {channel}"
#: This channel is blocked until an operator fixes it.
_CHANNEL: Final[dict[str, str]] = {
    "channel_not_found": "no such channel {channel}, or it is private and the app is not in it: mend the "
    "name, or /invite @<app> there",
    "not_in_channel": _INVITE,
    "no_permission": _INVITE,
    "access_denied": _INVITE,
    "is_archived": "{channel} is archived: unarchive it, or route to another channel",
    "is_inactive": "{channel} is frozen or archived: unarchive it, or route to another channel",
    "restricted_action": "posting in {channel} is restricted: allow the app in the channel's posting permissions",
    "restricted_action_read_only_channel": "{channel} is read-only: allow the app in the channel's posting permissions",
    "restricted_action_thread_only_channel": "{channel} takes replies only: route to another channel",
    "posting_to_channel_denied": "posting in {channel} is restricted: allow the app in the channel's "
    "posting permissions",
    "channel_is_limited_access": "{channel} is closed to apps: route to another channel",
    "method_not_supported_for_channel_type": "{channel} is no channel to post in: route to another one",
    "messages_tab_disabled": "turn on the app's Messages tab (App Home), or route to a channel",
    "team_not_found": "an organization's token needs the channel's id: use C... in place of {channel}",
}
#: They look like errors of a channel, and concern one thread.
_DELIVERY: Final = frozenset({"restricted_action_thread_locked", "restricted_action_non_threadable_channel"})


def meaning(response: Response, request: SlackRequest, place: SlackPlace) -> DeliveryError | None:
    """Return the error that an answer means; None on success."""
    method, error = request.method, response.error
    closes = place.method(method if method in (POST, EDIT, DELETE) else RECONCILE)
    message = f"{method}: {error or f'HTTP {response.status}'}"
    if response.status == 429 or error in _THROTTLED:
        return Throttled(message, retry_after=retry_after_of(response.retry_after), reason="ratelimited", closes=closes)
    if error == "message_limit_exceeded":
        # The workspace's limit, not only ours; Slack does not say when it ends.
        return Throttled(message, retry_after=timedelta(minutes=10), reason=error, closes=place.whole)
    if response.status >= 500 or error in _UNKNOWN:
        reason = error or f"http_{response.status}"
        return Unavailable(message, reason=reason) if request.is_reading else DeliveryUncertain(message, reason=reason)
    if response.body.get("ok") is True and response.status < 300:
        return None
    if not error:
        return _not_slack(response, request, place)
    if error in _PASSING:
        return Throttled(message, retry_after=timedelta(minutes=1), reason=error, closes=place.address)
    return _refusal(error, message, response, request, place)


def _refusal(error: str, message: str, response: Response, request: SlackRequest, place: SlackPlace) -> DeliveryError:
    about = (
        "delivery"
        if error in _DELIVERY
        else "workspace"
        if error in _WORKSPACE
        else "channel"
        if error in _CHANNEL
        else ""
    )
    about = about or _by_shape(error)
    if about == "workspace":
        needed = line(str(response.body.get("needed") or "that it lacks"), 200)
        cure = _WORKSPACE.get(
            error, f"Slack answers {error}: look at the app in api.slack.com/apps, or install it again"
        )
        return DeliveryRefused(message, cure=cure.format(needed=needed), reason=error, closes=place.whole)
    if about == "channel":
        cure = _CHANNEL.get(
            error, "Slack answers {error} for {channel}: look at its settings, or route to another channel"
        )
        named = line(place.channel, 100)
        return DeliveryRefused(
            f"{message} ({named})", cure=cure.format(channel=named, error=error), reason=error, closes=place.address
        )
    if about == "unknown":
        return Unavailable(message, reason=error) if request.is_reading else DeliveryUncertain(message, reason=error)
    return Rejected(message, reason=error)


def _by_shape(error: str) -> str:
    """Return what an unknown code concerns, by its form: workspace, channel, an accident at Slack
    ("unknown"), or delivery.
    """
    if error.startswith(("restricted_action", "posting_to_", "channel_", "cannot_post_")) or error.endswith("_channel"):
        return "channel"
    if error.startswith(("token_", "team_", "org_", "account_", "app_", "enterprise_", "two_factor_")):
        return "workspace"
    if error.endswith(("_auth", "_scope", "_token")):
        return "workspace"
    if error.endswith(("_error", "timeout", "unavailable")):
        return "unknown"
    return "delivery"


def _not_slack(response: Response, request: SlackRequest, place: SlackPlace) -> DeliveryError:
    message = f"{request.method}: an answer that is not Slack's (HTTP {response.status})"
    if 300 <= response.status < 500 and response.status != 408:
        # Slack answers 200, 429 or 5xx. This comes from something in between, which let nothing through.
        cure = (
            "SPANPOST_SLACK__BASE_URL, or the proxy of this machine, does not lead to Slack's Web API: mend or unset it"
        )
        return DeliveryRefused(message, cure=cure, reason=f"http_{response.status}", closes=place.whole)
    return (
        Unavailable(message, reason="bad_answer")
        if request.is_reading
        else DeliveryUncertain(message, reason="bad_answer")
    )


def retry_after_of(retry_after: float | None) -> timedelta:
    """Return how long to wait, within the bounds."""
    asked = from_seconds(retry_after, RETRY_AFTER)
    return min(max(asked, timedelta(seconds=LEAST)), timedelta(seconds=MOST))
