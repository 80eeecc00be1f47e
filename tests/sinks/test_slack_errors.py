"""The meaning of Slack's answers: the whole list of its errors, and those that no list names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.deliveries import SinkCall
from spanpost.model.errors import DeliveryError, DeliveryRefused, DeliveryUncertain, Rejected, Throttled, Unavailable
from spanpost.sinks.slack import errors
from spanpost.sinks.slack.calls import Response, SlackPlace, SlackRequest
from spanpost.sinks.slack.errors import meaning
from spanpost.sinks.slack.rates import Rates, rate_limits

PLACE = SlackPlace(channel="#agents")
POST = SlackRequest(method="chat.postMessage")
EDIT = SlackRequest(method="chat.update")
RECONCILE = SlackRequest(method="conversations.history")

#: Errors of chat.postMessage, chat.update, chat.delete, conversations.history and .replies, as Slack's
#: reference lists them (slack-ruby/slack-api-ref, 2026-08), without those that our arguments cannot cause,
#: and the outcome of each.
WORKSPACE = """account_inactive app_access_restricted deprecated_endpoint ekm_access_denied
enterprise_is_restricted invalid_auth is_bot metadata_must_be_sent_from_app method_deprecated missing_scope
not_allowed_token_type not_authed org_login_required team_access_not_granted team_added_to_org token_expired
token_revoked two_factor_setup_required unknown_method accesslimited"""
CHANNEL = """access_denied channel_is_limited_access channel_not_found is_archived is_inactive
messages_tab_disabled method_not_supported_for_channel_type no_permission not_in_channel
posting_to_channel_denied restricted_action restricted_action_read_only_channel
restricted_action_thread_only_channel team_not_found"""
DELIVERY = """as_user_not_supported cannot_reply_to_message invalid_arg_name invalid_array_arg
invalid_charset invalid_form_data invalid_metadata_format invalid_metadata_schema invalid_post_type
markdown_text_conflict metadata_too_large missing_post_type msg_too_long no_text
restricted_action_non_threadable_channel restricted_action_thread_locked invalid_arguments"""
DOUBT = """fatal_error internal_error request_timeout service_unavailable duplicate_message_not_found
duplicate_channel_not_found"""


def refused(word: str, request: SlackRequest = POST, **more) -> DeliveryError:
    error = meaning(Response(body={"ok": False, "error": word} | more), request, PLACE)
    assert error is not None
    assert error.reason == word
    return error


@pytest.mark.parametrize("word", WORKSPACE.split())
def test_of_the_workspace(word):
    """An error of a token or a workspace stops the workspace, with a remedy."""
    error = refused(word)
    assert isinstance(error, DeliveryRefused)
    assert error.closes == PLACE.whole
    assert len(error.cure) > 20
    assert "{" not in error.cure


@pytest.mark.parametrize("word", CHANNEL.split())
def test_of_the_channel(word):
    """An error of a channel stops that channel alone, by its rate limit's key, and the remedy names it."""
    error = refused(word)
    assert isinstance(error, DeliveryRefused)
    assert error.closes in {b.key for b in rate_limits(PLACE, SinkCall.POST, Rates())}
    assert error.closes == PLACE.address
    assert "{" not in error.cure
    assert "#agents" in error.cure + str(error)


@pytest.mark.parametrize("word", DELIVERY.split())
def test_of_the_message(word):
    """An error of one message makes that delivery a dead letter and stops no other."""
    error = refused(word)
    assert isinstance(error, Rejected)
    assert not error.closes


@pytest.mark.parametrize("word", DOUBT.split())
def test_doubt(word):
    """A post or edit that failed inside Slack may have happened; a lookup changed nothing, and is only tried
    again.
    """
    assert isinstance(refused(word), DeliveryUncertain)
    assert isinstance(refused(word, EDIT), DeliveryUncertain)
    assert isinstance(refused(word, RECONCILE), Unavailable)


def test_what_passes_by_itself_holds_up_one_channel():
    """A channel that is being moved waits a little, alone; that is no failure of Slack's."""
    error = refused("external_channel_migrating", EDIT)
    assert isinstance(error, Throttled)
    assert error.closes == PLACE.address


def test_a_missing_scope_is_named():
    """The remedy names the scope that Slack says is needed."""
    error = refused("missing_scope", RECONCILE, needed="channels:history,groups:history", provided="chat:write")
    assert isinstance(error, DeliveryRefused)
    assert "channels:history,groups:history" in error.cure


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("restricted_action_on_tuesdays", DeliveryRefused),
        ("posting_to_general_channel_denied", DeliveryRefused),
        ("token_borrowed", DeliveryRefused),
        ("weak_auth", DeliveryRefused),
        ("backend_error", DeliveryUncertain),
        ("upstream_timeout", DeliveryUncertain),
        ("too_many_cats", Rejected),
        ("whatever", Rejected),
    ],
)
def test_a_word_that_no_list_names_goes_by_its_shape(word, kind):
    """An unlisted error is judged by similar ones; an unrecognizable one makes one delivery a dead letter."""
    assert type(refused(word)) is kind


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (POST, "slack:default:chat.postMessage"),
        (EDIT, "slack:default:chat.update"),
        (RECONCILE, "slack:default:conversations.history"),
    ],
)
@pytest.mark.parametrize(
    "answer", [Response(status=429, retry_after=7), Response(body={"ok": False, "error": "ratelimited"}, retry_after=7)]
)
def test_a_retry_after_closes_the_method(request_, key, answer):
    """A 429 closes that method of the workspace, by the key that its calls draw on, for the requested time."""
    error = meaning(answer, request_, PLACE)
    assert isinstance(error, Throttled)
    call = {POST.method: SinkCall.POST, EDIT.method: SinkCall.EDIT, RECONCILE.method: SinkCall.RECONCILE}[
        request_.method
    ]
    assert error.closes == key
    assert key in {b.key for b in rate_limits(PLACE, call, Rates())}
    assert error.retry_after.total_seconds() == 7


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (None, 30),
        (0, 1),
        (-3, 30),
        (0.2, 1),
        (2.5, 2.5),
        (30, 30),
        (86_400, 3600),
        (1e9, 30),
        (float("nan"), 30),
        (float("inf"), 30),
    ],
)
def test_a_retry_after_is_bounded(asked, seconds):
    """Fractions are accepted, thirty years count as nothing, and the pause is never zero or above a day."""
    assert errors.retry_after_of(asked).total_seconds() == seconds


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599, 408, 200])
def test_what_is_not_slacks_answer_is_doubt(status):
    """A 5xx, a 408, or a 200 without Slack's body makes a post unknown, and a lookup to be tried again."""
    assert isinstance(meaning(Response(status=status), POST, PLACE), DeliveryUncertain)
    assert isinstance(meaning(Response(status=status), RECONCILE, PLACE), Unavailable)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 407, 413])
def test_a_stranger_in_between_is_refused(status):
    """Slack answers 200, 429 or 5xx: another status without its body is a proxy's, which passed nothing on."""
    error = meaning(Response(status=status), POST, PLACE)
    assert isinstance(error, DeliveryRefused)
    assert error.closes == PLACE.whole


def test_all_is_well():
    """ok: true raises nothing."""
    assert meaning(Response(body={"ok": True}), POST, PLACE) is None


@given(
    st.integers(0, 999),
    st.dictionaries(
        st.sampled_from(["ok", "error", "needed", "ts"]),
        st.none() | st.booleans() | st.text() | st.integers() | st.lists(st.text()),
    ),
    st.none() | st.floats(),
    st.sampled_from([POST, EDIT, RECONCILE]),
)
def test_any_answer_means_something(status, body, retry_after, request_):
    """Any answer is understood; only Slack's own ok is a success, and every error has a reason."""
    error = meaning(Response(status=status, body=body, retry_after=retry_after), request_, PLACE)
    if error is None:
        assert body["ok"] is True
        assert status < 300
    else:
        assert error.reason
        assert not (isinstance(error, DeliveryUncertain) and request_ is RECONCILE)
