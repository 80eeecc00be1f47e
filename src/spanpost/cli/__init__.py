"""The command line. Data goes to stdout, messages to stderr. Exit 0: done; 1: a finding or failure; 2: a
mistake in the command or the settings.
"""

from __future__ import annotations

import gc
import os
import sys

from spanpost.control_protocol import HOOK_PROGRAMS
from spanpost.model.errors import ConfigError, SpanpostError

#: Longest line of an error, characters.
_LONGEST = 4_000
#: Thresholds of the garbage collector. At Python's default of 700 a sixth of the start goes into visits of what
#: the modules have just made. The spans of one transaction are alive together, and have no cycles either.
_COLLECT = (100_000, 10, 10)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    gc.set_threshold(*_COLLECT)
    if len(sys.argv) > 2 and sys.argv[1] == "hook" and sys.argv[2] in HOOK_PROGRAMS and "--help" not in sys.argv:
        from spanpost.cli.hook_call import call  # it runs for every prompt: without the rest of the command line

        call(sys.argv[2], sys.argv[3:])
    if sys.argv[1:] == ["--version"]:
        print(version())  # without the commands, which take longer to load
        sys.exit(0)
    for number, text in enumerate(sys.argv[1:], 1):
        try:
            text.encode()
        except UnicodeEncodeError:
            complain(ConfigError(f"argument {number} is not UTF-8 text: write it in UTF-8, or rename the file"))
            sys.exit(2)
    # A plugin of pydantic, as logfire's, serves the agent's own models; importing it takes longer than most commands.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        from spanpost.cli.program import program
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "spanpost":
            raise
        print(f"spanpost: the command line needs {error.name}: pip install 'spanpost[all]'", file=sys.stderr)
        sys.exit(2)
    try:
        program(prog_name="spanpost")
    except ConfigError as error:
        complain(error)
        sys.exit(2)
    except SpanpostError as error:
        complain(error)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "spanpost":
            raise
        print(f"spanpost: this command needs {error.name}: pip install 'spanpost[all]'", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has gone; Python must not report it a second time when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def version() -> str:
    """Return the line of `--version`."""
    from importlib.metadata import version

    return f"spanpost {version('spanpost')}"


def complain(error: SpanpostError) -> None:
    """Print an error on stderr, one line for each mistake. Errors quote what was typed, and what others wrote."""
    from spanpost.text.sanitise import cut, strip

    for line in strip(str(error)).splitlines():
        print(f"spanpost: {cut(line, _LONGEST)}", file=sys.stderr)
