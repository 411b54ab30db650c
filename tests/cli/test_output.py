from __future__ import annotations

import io

import pytest

from orchestrator.cli.render import output
from orchestrator.cli.verbs import adopt, trust
from orchestrator.domain.text import named
from orchestrator.fleet.views import Adopted, Orphan, TrustedPersona


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.requirement("cli:colour:no-color")
@pytest.mark.parametrize(
    ("stream", "variables", "wanted"),
    [
        (_Terminal(), {}, True),
        (_Terminal(), {"TERM": "dumb"}, False),
        (_Terminal(), {"NO_COLOR": "1"}, False),
        (_Terminal(), {"NO_COLOR": ""}, True),
        (_Terminal(), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (io.StringIO(), {}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (io.StringIO(), {"FORCE_COLOR": "0"}, False),
    ],
)
def test_colour_is_for_terminals_unless_the_environment_says_otherwise(
    stream: io.StringIO, variables: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert output.coloured(stream) is wanted


LONG_NAME = "my words " * 60


@pytest.mark.requirement("session:adopt:moved-project")
def test_what_is_left_of_a_moved_project_is_told_to_its_end_however_long_its_path() -> None:
    left = {"name": "n" * 64, "agent": "ag_" + "0" * 32, "status": "failed", "orchestrator": LONG_NAME}
    moved = adopt._orphan_line(Orphan(**left, project=f"/home/{LONG_NAME}", is_moved=True))
    assert moved.endswith('" no longer exists')
    assert moved.count('"') == 2
    gone = adopt._orphan_line(Orphan(**left, project="/p", is_moved=False))
    assert gone.endswith('…"')
    taken = Adopted(name="n" * 64, agent="ag_" + "0" * 32, orchestrator=LONG_NAME, was=LONG_NAME, moved_from="")
    assert adopt._adopted_line(taken).count('"') == 4


@pytest.mark.requirement("persona:own:replaced-only-with-trust")
def test_what_a_trusted_file_may_do_more_is_told_whole_or_counted() -> None:
    more = tuple(f"{named(f'mcp__a b{number} ' + 'z' * 130)} without asking" for number in range(30))
    one = TrustedPersona(name="scout", path=f"/p/{LONG_NAME}", digest="0" * 64, more=more)
    said = trust.line_of(one, "trusted")
    shown = said.count(" without asking")
    assert said.endswith(f" without asking and {30 - shown} more")
    assert said.count('"') == 2 + 2 * shown
