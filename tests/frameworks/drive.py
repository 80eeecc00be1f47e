"""Runs an example in its framework's own environment as a test directs; pytest does not collect this file.

``drive.py EXAMPLE IN OUT``: each line of the file descriptor IN is a command for the example. When its tool asks the
outside world, the line "tool" goes to OUT and the tool waits for "go" or "fail". When it asks a person, the line is
"asked" and it waits for "yes" or "no". At the end the line is "done" or "raised TYPE".
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import os
import sys
from typing import Any


def main(path: str, from_test: int, to_test: int) -> None:
    with os.fdopen(from_test) as commands, os.fdopen(to_test, "w") as tell:

        def say(line: str) -> None:
            tell.write(f"{line}\n")
            tell.flush()

        def ask_the_weather_service(city: str) -> str:
            say("tool")
            if commands.readline().strip() == "fail":
                raise TimeoutError("the weather service does not answer")
            return f"{city}: 4 °C and rain"

        def ask_a_person(question: str) -> bool:
            say("asked")
            return commands.readline().strip() == "yes"

        spec = importlib.util.spec_from_file_location("example", path)
        assert spec is not None
        assert spec.loader is not None
        example: Any = importlib.util.module_from_spec(spec)
        sys.modules["example"] = example
        spec.loader.exec_module(example)
        example.ask_the_weather_service = ask_the_weather_service
        example.ask_a_person = ask_a_person
        say("ready")
        while what := commands.readline().strip():
            try:
                ran = example.run(what)
                if inspect.iscoroutine(ran):
                    asyncio.run(ran)
            except Exception as error:
                say(f"raised {type(error).__name__}: {error}")
            else:
                say("done")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
