"""The daemon's log: one JSON object per line, without secrets, appended to a file of mode 0600.

Records of the standard library's `logging` (uvicorn, mcp, SQLAlchemy) go to the same file. Values that the current task
set with `bound` (the caller, the agent) appear in every line that it writes.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog
from structlog.stdlib import BoundLogger
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN = "[secret]"
MAX_BYTES = 10 * 1024 * 1024
KEPT_FILES = 2

_OURS = ("fleet", "orchestrator")
_SHORTEST_SECRET = 6
"""Shorter values would mask ordinary words."""
_SECRET_KEYS = frozenset({"account", "api_key", "authorization", "environment", "hello", "password", "secret", "token"})
_hidden: set[str] = set()
_JSON = structlog.processors.JSONRenderer(default=str)


def hide(values: Iterable[str]) -> None:
    """Mask these values in every line written from now on, wherever it comes from."""
    for value in values:
        if len(value) >= _SHORTEST_SECRET:
            _hidden.update({value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]})


def masked(text: str) -> str:
    """The text with every hidden value masked."""
    for value in _hidden:
        text = text.replace(value, HIDDEN)
    return text


def logger(name: str) -> BoundLogger:
    """The logger of one module: `logger(__name__).info("what happened", agent=…)`."""
    return structlog.stdlib.get_logger(name)


def bound(**values: object) -> AbstractContextManager[None]:
    """Add these values to every line that the current task writes inside the block."""
    return structlog.contextvars.bound_contextvars(**values)


def open_log(path: Path, *, level: str = "INFO") -> None:
    """Send everything that this process logs to `path`: our own records from `level` up, libraries' from WARNING up.

    The file is rotated at 10 MiB; two old files are kept.

    Raises:
        OSError: the file cannot be opened for writing.
    """
    handler = _open(path)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _rendered],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    for ours in _OURS:
        logging.getLogger(ours).setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class _LineLog(RotatingFileHandler):
    """Writes each record on its own line, even after a line that a full disk cut off."""

    is_cut = False
    """whether the file's last line is unterminated"""

    def emit(self, record: logging.LogRecord) -> None:
        """Append the record; it is lost if the disk is full."""
        try:
            if self.shouldRollover(record):
                self.doRollover()
                self.is_cut = False
            text = self.format(record)
            self._append(f"\n{text}\n" if self.is_cut else f"{text}\n")
        except OSError:  # reported nowhere: standard error is the same file
            return
        except Exception:  # noqa: BLE001 - as in every logging.Handler: handleError reports whatever went wrong
            self.handleError(record)

    def _append(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        self.stream = self.stream or self._open()
        file = self.stream.fileno()  # bypasses the buffer, which would keep the rest of a cut line
        while data:
            count = os.write(file, data)
            self.is_cut = count < len(data)
            data = data[count:]


def _open(path: Path) -> _LineLog:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.fchmod(file, 0o600)
    size = os.fstat(file).st_size
    is_cut = size > 0 and os.pread(file, 1, size - 1) != b"\n"
    os.close(file)
    handler = _LineLog(path, maxBytes=MAX_BYTES, backupCount=KEPT_FILES, encoding="utf-8", errors="replace")
    handler.is_cut = is_cut
    return handler


def _rendered(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """The finished line with every hidden value masked: tracebacks and libraries' messages may contain them too."""
    return masked(str(_JSON(logger, method, event)))


def _without_secret_keys(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key in _SECRET_KEYS.intersection(event):
        event[key] = HIDDEN
    return event


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.format_exc_info,
    _without_secret_keys,
]
