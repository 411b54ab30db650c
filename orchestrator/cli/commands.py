"""The table of all commands, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import Abort, TyperException

from orchestrator import paths
from orchestrator.cli.demo import demo, rehearse
from orchestrator.cli.doctor import doctor
from orchestrator.cli.render import output
from orchestrator.cli.verbs import adopt, agents, backup, budget, daemon, inspect, logs, trust, wait
from orchestrator.cli.verbs import run as running
from orchestrator.domain.text import is_plain
from orchestrator.errors import FleetError, InvalidError

_EPILOG = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 time-out, 5 an agent needs an answer, 130 interrupted. "
    "FLEET_STATE chooses the state directory; NO_COLOR and FORCE_COLOR are honoured."
)
MAX_SHOWN_CHARACTERS = 80
_PASSED_ON: dict[str, object] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

app = typer.Typer(
    name="fleet",
    help="Run a durable fleet of background coding agents: create agents, wait for them, read their results.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

for _name, _command in (
    ("demo", demo.demo),
    ("run", running.run),
    ("ps", inspect.ps),
    ("show", inspect.show),
    ("logs", logs.logs),
    ("output", inspect.show_output),
    ("create", agents.create),
    ("command", agents.command),
    ("answer", agents.answer),
    ("wait", wait.wait),
    ("budget", budget.budget),
    ("interrupt", agents.interrupt),
    ("rm", agents.rm),
    ("adopt", adopt.adopt),
    ("trust", trust.trust),
    ("up", daemon.up),
    ("down", daemon.down),
    ("backup", backup.backup),
    ("doctor", doctor.doctor),
    ("rehearse", rehearse.rehearse),
    ("version", daemon.version),
):
    app.command(_name)(_command)


@app.command("daemon", context_settings=_PASSED_ON)
def _daemon(context: typer.Context) -> None:
    """Run the daemon in the foreground."""
    _as_program("daemon", context.args)


@app.command("mcp", context_settings=_PASSED_ON)
def _mcp(context: typer.Context) -> None:
    """Serve the fleet's tools on stdio (MCP)."""
    _as_program("mcp", context.args)


def _as_program(name: str, arguments: list[str]) -> None:
    """Replace this process with a program that `python -m orchestrator` starts without importing the command line."""
    words = [sys.executable, "-P", "-m", "orchestrator", name, *arguments]
    os.execve(sys.executable, words, paths.with_package_path(os.environ))  # noqa: S606 - this interpreter with our own module, and no shell


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors and messages go to stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given[: given.index("--")] if "--" in given else "--json" in given
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - text streams have it
    before = signal.signal(signal.SIGTERM, _end)
    try:
        _check_words(given)
        code: object = app(args=given, prog_name="fleet", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
        return output.EXIT_FAILED
    except KeyboardInterrupt:
        return output.EXIT_INTERRUPTED
    except (FleetError, TyperException, Abort) as error:
        return _explained(error, as_json=as_json)
    finally:
        signal.signal(signal.SIGTERM, before)
    return code if isinstance(code, int) else 0


def _check_words(words: Sequence[str]) -> None:
    """Check that the words can be sent to the daemon.

    Raises:
        InvalidError: one is not UTF-8.
    """
    for word in words:
        if not is_plain(word):
            raise InvalidError(f"{word[:MAX_SHOWN_CHARACTERS]!a} is not UTF-8", hint="write it in UTF-8")


def _end(number: int, frame: object) -> None:
    del frame
    raise SystemExit(128 + number)  # so that open context managers clean up


def _explained(error: Exception, *, as_json: bool) -> int:
    """Print what failed and what to do next; return the exit code."""
    if isinstance(error, FleetError):
        output.complain(type(error).__name__, error.message, error.hint, as_json=as_json)
        return error.exit_code
    if isinstance(error, TyperException):
        place: object = getattr(getattr(error, "ctx", None), "command_path", "fleet")
        if type(error).__name__ == "NoArgsIsHelpError":
            output.say(error.format_message())
        else:
            output.complain("UsageError", error.format_message(), f"{place} --help", as_json=as_json)
        return error.exit_code
    return output.EXIT_INTERRUPTED  # Abort: stdin ended
