"""The command line. Data goes to stdout, messages to stderr. Exit 0: done; 1: a finding or failure; 2: a
mistake in the command or the settings.
"""

from __future__ import annotations

import os
import sys

from spanpost.model.errors import ConfigError, SpanpostError


def main() -> None:
    """Run the command line and end the process with its exit code."""
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


def complain(error: SpanpostError) -> None:
    """Print an error on stderr, one line for each mistake."""
    for line in str(error).splitlines():
        print(f"spanpost: {line}", file=sys.stderr)
