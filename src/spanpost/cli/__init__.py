"""The command line. Data goes to stdout, talk to stderr; exit 0 is good, 1 is a finding, 2 is a mistake in what was asked."""

from __future__ import annotations

import os
import sys

from spanpost.model.errors import ConfigError, SpanpostError


def main() -> None:
    """Run the command line and leave the process with its exit code."""
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
        # The reader (head, less) has gone; Python must not complain of it a second time when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def complain(error: SpanpostError) -> None:
    """Say on stderr what is wrong, one line a mistake."""
    for line in str(error).splitlines():
        print(f"spanpost: {line}", file=sys.stderr)
