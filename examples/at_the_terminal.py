"""A person for the examples: what is asked is shown here, and answered by typing. At work people answer in Slack."""

from __future__ import annotations

import getpass
import sys
import threading
import time

import spanpost


def answer_questions(pipeline: spanpost.Pipeline) -> None:
    """Begin to show what agents ask, and to take the answers from the terminal."""
    threading.Thread(target=_answer, args=(pipeline,), daemon=True).start()


def _answer(pipeline: spanpost.Pipeline) -> None:
    while not pipeline.is_shut:
        for asked in pipeline.questions():
            print(f"\n{asked.question}\n{asked.detail}".rstrip())
            print(f"{' or '.join(asked.options or ('approve', 'deny'))}? ", end="", flush=True)
            word, _, comment = sys.stdin.readline().strip().partition(" ")
            if not asked.options:
                word = {"y": "approve", "yes": "approve", "n": "deny", "no": "deny"}.get(word.lower(), word)
            try:
                pipeline.decide(str(asked.key), word, by=getpass.getuser(), comment=comment)
            except spanpost.ConfigError as error:
                print(error)
        time.sleep(0.2)
