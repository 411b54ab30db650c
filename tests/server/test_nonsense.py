"""Nonsense in the hello, in the arguments of every tool, and on every route of the HTTP API.

It is answered in one sentence that does not blame Fleet. A bounded number of examples runs by default; the slow tests
are the same with many more.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orchestrator.cli.commands import run
from orchestrator.server.http import loopback
from orchestrator.server.http.api import ENDPOINTS
from tests.fixtures.daemon import Daemon, clean_env, running_daemon
from tests.fixtures.raw_door import MODERN
from tests.server.test_bad_input import ODDITIES, one_sentence

pytestmark = pytest.mark.requirement("mcp:errors:not-blamed-on-fleet")
BLAME = "Fleet itself failed"
FEW, MANY = 60, 1500
BOTH = pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
TIMEOUT_SECONDS = 60.0
"""for one answer; the slowest one, the deletion of an agent whose program is just starting, takes 1.5 s"""
MAX_HEAD_CHARACTERS = 60_000
"""of a header; the HTTP server itself refuses longer ones with status 400, before anything of ours sees them"""
SCHEMAS = json.loads(Path(__file__).with_name("tools.snapshot.json").read_text())


def nested(depth: int, *, as_list: bool) -> Any:
    """A value that many lists or objects enclose."""
    value: Any = "x"
    for _ in range(depth):
        value = [value] if as_list else {"a": value}
    return value


DIGITS = 10**4000
DEEP = [nested(depth, as_list=as_list) for depth in (60, 150, 400) for as_list in (True, False)]
WORSE: list[Any] = [
    *ODDITIES,
    *DEEP,
    DIGITS,
    -DIGITS,
    float("-inf"),
    2**31,
    0,
    -1,
    1.5,
    "x" * 5000,
    "/" + "x" * 5000,
    "/" + "y/" * 2500,
    "/tmp/a\x00b",
    "/tmp/\ud800",
    "~root",
    "known",
    "@known",
    "known:ended",
    ["known", "known"],
    ["known", None, 3],
    [DIGITS],
    ["\ud800"],
    {"exists": "a\x00b"},
    {"run": DIGITS},
    {"schema": nested(150, as_list=False)},
    '{"exists": ' + "[" * 3000,
]
ODD = st.sampled_from(WORSE)


def bounded(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,  # the same everywhere: what it finds must not depend on the run
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
        ],
    )


@pytest.fixture(scope="module")
def nonsense(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with all its doors open, whose project has an agent named `known` that waits for an account."""
    home, state = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("s")
    state.chmod(0o700)
    with running_daemon(state, clean_env(home, state, FLEET_HTTP_PORT="0")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def work(nonsense: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("project").resolve()
    (project / "file").write_text("no directory")
    with nonsense.http(project, environment={"HOME": str(project), "PATH": "/usr/bin:/bin"}) as client:
        assert client.post("/v1/agents", json={"name": "known", "task": "wait"}).status_code == 201
    return project


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


HELLO = st.dictionaries(
    st.sampled_from(
        [
            *("project", "cwd", "build", "host_session", "orchestrator", "door", "wait_seconds"),
            *("account", "environment", "pass_env", "passed", "predecessor", "name", "more"),
        ]
    ),
    ODD
    | st.dictionaries(
        st.sampled_from(["HOME", "PATH", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "LC_ALL", "UMASK", "umask", "x"]),
        ODD,
        min_size=1,
        max_size=2,
    ),
    max_size=3,
)
SOME_CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("list_agents", {}),
    ("create_agent", {"name": "a-1", "task": "t"}),
    ("wait_for_agents", {"timeout_seconds": 0}),
    ("delete_all_agents", {}),
)


def checked(answer: dict[str, Any]) -> None:
    """The answer to a call blames nothing on Fleet, and an error is one sentence."""
    assert BLAME not in json.dumps(answer), answer
    if "error" in answer:
        one_sentence(str(answer["error"]["message"]))
    elif answer["result"].get("isError"):
        one_sentence(answer["result"]["content"][0]["text"])


class Link:
    """A connection to the doors' socket that has said its hello; `refusal` is why it was not accepted, or ''."""

    def __init__(self, daemon: Daemon, hello: bytes) -> None:
        self._socket: socket.socket = daemon.connect()
        self._socket.settimeout(TIMEOUT_SECONDS)
        self._reader = self._socket.makefile("rb")
        self._socket.sendall(hello + b"\n")
        greeting = json.loads(self._reader.readline())
        self.refusal = str(greeting.get("error", ""))
        self._last = 0

    def call(self, tool: str, arguments: Any) -> dict[str, Any]:
        """The answer to one call of a tool."""
        self._last += 1
        params = {"name": tool, "arguments": arguments, **MODERN}
        line = as_json({"jsonrpc": "2.0", "id": self._last, "method": "tools/call", "params": params})
        self._socket.sendall(line + b"\n")
        while (answer := json.loads(self._reader.readline())).get("id") not in {self._last, None}:
            pass
        return answer

    def close(self) -> None:
        """Leave."""
        self._reader.close()
        self._socket.close()


def is_well(daemon: Daemon) -> None:
    """The daemon serves, and its log has no traceback."""
    with daemon.http() as client:
        assert client.get("/v1/health").status_code == 200
    assert [one for one in daemon.records() if one.get("exception") or one["event"].endswith("broke")] == []


@BOTH
def test_every_hello_on_the_socket_is_refused_in_one_sentence_or_served(
    nonsense: Daemon, work: Path, examples: int
) -> None:
    @bounded(examples)
    @given(odd=HELLO)
    def greet(odd: dict[str, Any]) -> None:
        with closing(Link(nonsense, as_json({**nonsense.hello(work), **odd}))) as link:
            if link.refusal:
                one_sentence(link.refusal)
                assert BLAME not in link.refusal
                return
            for tool, arguments in SOME_CALLS:
                checked(link.call(tool, arguments))

    greet()
    is_well(nonsense)


@BOTH
def test_every_hello_over_http_is_refused_in_one_sentence_or_served(
    nonsense: Daemon, work: Path, examples: int
) -> None:
    with nonsense.http() as client:

        @bounded(examples)
        @given(odd=HELLO)
        def greet(odd: dict[str, Any]) -> None:
            head = {"x-fleet-hello": json.dumps({**nonsense.hello(work), **odd})}
            assume(len(head["x-fleet-hello"]) < MAX_HEAD_CHARACTERS)
            for method, path, body in (
                ("GET", "/v1/registry", None),
                ("GET", "/v1/agents", None),
                ("POST", "/v1/agents", {"name": "b-1", "task": "t"}),
                ("DELETE", "/v1/agents", None),
            ):
                sentence_of(client.request(method, path, json=body, headers=head))

        greet()
    is_well(nonsense)


@pytest.mark.parametrize(
    "project",
    ["{work}/file", "{work}/none", "/" + "x" * 5000, "/" + "y/" * 2500, "/a\x00b", "/\ud800", "relative", ""],
    ids=["file", "missing", "long name", "long path", "NUL", "surrogate", "relative", "empty"],
)
def test_a_project_that_cannot_be_one_is_named_in_one_sentence(nonsense: Daemon, work: Path, project: str) -> None:
    hello = {**nonsense.hello(work), "project": project.replace("{work}", str(work))}
    with closing(Link(nonsense, as_json(hello))) as link:
        said = link.refusal or str(link.call("create_agent", {"name": "c-1", "task": "t"}))
        assert "project" in said
        assert BLAME not in said
    with nonsense.http() as client:
        made = client.post(
            "/v1/agents", json={"name": "c-1", "task": "t"}, headers={"x-fleet-hello": json.dumps(hello)}
        )
        assert 400 <= made.status_code < 500
        assert "project" in made.json()["detail"]


def arguments_of(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Valid values for what is required, and nonsense for some of all arguments."""
    names = list(schema["inputSchema"]["properties"])
    base = {"name": "n-1", "task": "t", "agent": "known", "agents": ["known-not"]}
    needed = {name: base[name] for name in schema["inputSchema"].get("required", ())}
    return st.dictionaries(st.sampled_from([*names, "nope"]), ODD, max_size=3).map(lambda odd: {**needed, **odd})


CALLS = st.sampled_from(SCHEMAS).flatmap(lambda tool: st.tuples(st.just(str(tool["name"])), arguments_of(tool)))


@BOTH
def test_every_argument_of_every_tool_on_the_socket_is_refused_in_one_sentence_or_served(
    nonsense: Daemon, work: Path, examples: int
) -> None:
    with closing(Link(nonsense, as_json(nonsense.hello(work)))) as link:

        @bounded(examples * 4)
        @given(call=CALLS)
        def ask(call: tuple[str, dict[str, Any]]) -> None:
            tool, arguments = call
            if tool == "wait_for_agents":
                arguments["timeout_seconds"] = 0
            checked(link.call(tool, arguments))

        ask()
    is_well(nonsense)


@BOTH
def test_every_argument_of_every_tool_over_http_is_refused_in_one_sentence_or_served(
    nonsense: Daemon, work: Path, examples: int
) -> None:
    with nonsense.http() as client:
        url = client.get("/v1/health").json()["http"]
    head = {
        "authorization": f"Bearer {(nonsense.state / loopback.TOKEN_FILE).read_text().strip()}",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "x-fleet-hello": json.dumps(nonsense.hello(work)),
    }
    with httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False) as client:

        @bounded(examples)
        @given(call=CALLS)
        def ask(call: tuple[str, dict[str, Any]]) -> None:
            tool, arguments = call
            if tool == "wait_for_agents":
                arguments["timeout_seconds"] = 0
            params = {"name": tool, "arguments": arguments, **MODERN}
            body = as_json({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
            answer = client.post("/mcp", content=body, headers={**head, "mcp-name": tool})
            assert answer.status_code < 500, answer.text
            assert BLAME not in answer.text

        ask()
    is_well(nonsense)


def sentence_of(answer: httpx.Response) -> None:
    """The answer is no fault of Fleet's, and a refusal is one sentence."""
    assert answer.status_code < 500, answer.text
    assert BLAME not in answer.text
    if answer.status_code >= 400:
        one_sentence(answer.json()["detail"])


SAFE = [one for one in ENDPOINTS if one.path not in {"/v1/shutdown", "/v1/stream", "/v1/backup"}]
ROUTES = st.sampled_from(SAFE)
TEXTS = [value if isinstance(value, str) else json.dumps(value) for value in WORSE]
PLAIN_TEXTS = st.sampled_from([text for text in TEXTS if "\ud800" not in text and len(text) < 10_000])
REFS = st.sampled_from(["known", "nobody", "%00", "%ED%A0%80", "x" * 3000, "..%2f..", "9" * 40])


@BOTH
def test_every_body_and_query_of_every_route_is_refused_in_one_sentence_or_served(
    nonsense: Daemon, work: Path, examples: int
) -> None:
    with nonsense.http(work) as client:

        @bounded(examples * 4)
        @given(data=st.data(), route=ROUTES, reference=REFS)
        def ask(data: st.DataObject, route: Any, reference: str) -> None:
            fields = st.sampled_from([*route.body.model_fields, "nope"])
            body = data.draw(st.dictionaries(fields, ODD, max_size=4) | ODD)
            query = data.draw(
                st.dictionaries(st.sampled_from([*route.query.model_fields, "nope"]), PLAIN_TEXTS, max_size=2)
            )
            if route.path == "/v1/wait":
                body = {**(body if isinstance(body, dict) else {}), "timeout_seconds": 0}
            path = route.path.replace("{ref}", reference)
            content = None if route.method in {"GET", "DELETE"} else as_json(body)
            sentence_of(client.request(route.method, path, params=query, content=content))

        ask()
    is_well(nonsense)


WORDS: tuple[tuple[str, ...], ...] = (
    ("\udcff\udcfe",),
    ("x" * 5000,),
    ("9" * 4000, "9" * 4000),
    ("known", "\udcff"),
    ("--max-cost-usd", "9" * 4000, "known", "t"),
    ("--max-tokens", "nan", "known"),
    ("--timeout", "inf", "known"),
    ("--turn", "9" * 4000, "known"),
)


@pytest.mark.parametrize(
    "command",
    ["create", "command", "answer", "wait", "show", "output", "logs", "budget", "rm", "interrupt", "ps", "backup"],
)
def test_odd_words_on_the_command_line_end_with_one_sentence(
    nonsense: Daemon, work: Path, command: str, capfdbinary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in nonsense.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(work)
    for words in WORDS:
        assert run([command, *words]) != 0 or command in {"ps", "budget"}
        said = capfdbinary.readouterr().err.decode(errors="replace")
        assert BLAME not in said
        assert "Traceback" not in said
    is_well(nonsense)
