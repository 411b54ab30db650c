"""The access checks of the HTTP API's TCP port.

Every user of the machine and every web page in a browser here can reach the port. So each request must carry the
token, which only this user can read, and a Host that names this port (a page that rebinds its name sends its own),
and may carry no Origin but ours.
"""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.errors import RefusedError
from orchestrator.server.http.loopback import HOST, TOKEN_FILE
from orchestrator.server.http.problems import problem

_SCHEME = "Bearer "
_CLOSE = {"Connection": "close"}
"""closes the connection of a client that was refused"""


def guard(application: ASGIApp, port: int, token: str) -> ASGIApp:
    """The application behind its access checks: 421 for a foreign Host, 403 for an Origin, 401 without the token."""
    hosts = {f"{name}:{port}" for name in (HOST, "localhost", "[::1]")}
    origins = {f"http://{host}" for host in hosts}

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        origins_sent, hosts_sent = headers.getlist("origin"), headers.getlist("host")
        if len(hosts_sent) != 1 or hosts_sent[0].lower() not in hosts:
            error = RefusedError("this Host is not served here", hint=f"use {HOST}:{port}")
            reply = problem(error, status=421, headers=_CLOSE)
        elif any(origin.lower() not in origins for origin in origins_sent):
            error = RefusedError("web pages of other origins are not served", hint="send no Origin")
            reply = problem(error, status=403, headers=_CLOSE)
        elif not _is_token(headers.getlist("authorization"), token):
            hint = f"send Authorization: Bearer and the content of {TOKEN_FILE} in the state directory"
            error = RefusedError("the token is missing or wrong", hint=hint)
            reply = problem(error, status=401, headers={**_CLOSE, "WWW-Authenticate": "Bearer"})
        else:
            await application(scope, receive, send)
            return
        await reply(scope, receive, send)

    return guarded


def _is_token(sent: list[str], token: str) -> bool:
    given = sent[0][len(_SCHEME) :].strip() if len(sent) == 1 and sent[0].startswith(_SCHEME) else ""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
