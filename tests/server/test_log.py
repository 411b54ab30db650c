"""The log: one JSON object per line, with the caller, and never a secret."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SECRET = 'sk-"quoted"-secret-ü'

SCRIPT = """
import asyncio, logging, sys
from pathlib import Path
from orchestrator import log
secret = sys.argv[2]
log.open_log(Path(sys.argv[1]))
logger = log.logger("orchestrator.test")
log.hide([secret, "me"])
logger.info("before %s", secret)
async def work():
    with log.bound(orchestrator="host-1"):
        logger.info("bound", account={"k": secret}, note=[secret])
    logger.info("free", me="me")
asyncio.run(work())
try:
    raise ValueError(secret)
except ValueError:
    logger.exception("broke")
logging.getLogger("uvicorn.error").warning("foreign %s", secret)
logging.getLogger("uvicorn.error").info("chatter")
logger.debug("detail")
"""


def written(place: Path) -> list[dict[str, Any]]:
    path = place / "daemon.log"
    subprocess.run([sys.executable, "-c", SCRIPT, str(path), SECRET], check=True, timeout=60)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert "secret-" not in text.replace("[secret]", "")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.requirement("daemon:log:json-without-secrets", "handshake:secrets:never-stored")
def test_every_line_is_json_and_no_secret_stands_in_any(tmp_path: Path) -> None:
    records = written(tmp_path)
    assert [record["event"] for record in records] == [
        "before [secret]",
        "bound",
        "free",
        "broke",
        "foreign [secret]",
    ]
    assert all({"at", "level", "logger"} <= set(record) for record in records)
    bound = records[1]
    assert (bound["orchestrator"], bound["account"], bound["note"]) == ("host-1", "[secret]", ["[secret]"])
    assert "orchestrator" not in records[2]
    assert "ValueError: [secret]" in records[3]["exception"]


def test_short_words_are_no_secrets(tmp_path: Path) -> None:
    assert written(tmp_path)[2]["me"] == "me"


FULL = """
import resource, sys
from pathlib import Path
from orchestrator import log
path = Path(sys.argv[1])
log.open_log(path)
logger = log.logger("orchestrator.test")
logger.info("whole")
endless = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, endless[1]))
logger.info("cut off")
logger.info("lost")
resource.setrlimit(resource.RLIMIT_FSIZE, endless)
logger.info("there is room again")
with path.open("a") as file:
    file.write('{"cut": "by a kill')
log.open_log(path)
logger.info("the next daemon")
"""


@pytest.mark.requirement("daemon:log:json-without-secrets", "fault:store:survived")
def test_behind_a_line_that_found_no_room_the_next_one_begins_on_its_own(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], check=True, timeout=60, capture_output=True)
    whole, cut, *rest = path.read_text().splitlines()
    assert json.loads(whole)["event"] == "whole"
    assert len(cut) == 10
    assert done.stderr == b"", "it would stand in the same file"
    assert [json.loads(line)["event"] for line in (rest[0], rest[2])] == ["there is room again", "the next daemon"]
    assert rest[1] == '{"cut": "by a kill'
