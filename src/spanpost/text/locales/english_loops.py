"""spanpost's texts about loops, in English."""

from __future__ import annotations

from typing import Final

from spanpost.text.locales.catalogue import Phrase

PHRASES: Final[dict[str, Phrase]] = {
    "kind.loop": "repeats itself",
    "figure.loop": "repeats {tools} ×{count:,}",
    "button.pause": "Pause",
    "button.dismiss": "Let it be",
    "button.cancel_whole": "The whole task is asked to stop, with all its agents.",
    "checkpoint.asked_dismiss": "{who} lets it be",
    "checkpoint.loop_same_call": "Calls {tools} with the same arguments: {count:,} times without anything new",
    "checkpoint.loop_cycle": "Calls {tools} in turn: {count:,} rounds without anything new",
    "checkpoint.loop_same_error": "Calls {tools} and fails with the same error: {count:,} times",
    "checkpoint.loop_same_result": "Calls {tools} with other arguments and gets the same result: {count:,} times",
    "checkpoint.loop_no_progress": "Made {count:,} calls without anything new: {tools}",
    "action.dismiss": "dismiss",
}
