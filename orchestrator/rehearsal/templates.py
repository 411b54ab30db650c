"""Renders the templates of a rehearsal script: sandboxed Jinja expressions, bounded in size and CPU time.

Scripts come from users. A template sees only values (no Python attributes, nothing that changes an object). Its output
is limited to `MAX_TEXT` characters or items, its work to `CPU_SECONDS`.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import re
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import lru_cache
from math import isfinite
from types import BuiltinMethodType, FrameType
from typing import cast

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.filters import do_indent
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEXT = 4 * 1024 * 1024
"""The most characters that one template may produce."""
MAX_BITS = 4096
"""The size of the largest number in bits."""
CPU_SECONDS = 5.0
"""Processor time for all templates of one request; it stops an accidental endless loop or regex."""

_CODE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_BACKSLASHED = re.compile(r"\\(?:[\\'\"nrt]|(?P<plain>))")
_WIDENING = frozenset(
    {"ljust", "rjust", "center", "zfill", "expandtabs", "format", "format_map", "replace", "translate"}
)
"""Methods of str whose output can be far larger than their input."""


class TemplateProblem(Exception):  # noqa: N818 - it is a finding about a script, named as its readers say it
    """A template cannot be rendered; the text says why, and which names it could have used."""


def _findall(value: object, pattern: str) -> list[object]:
    """Every match of `pattern`: the text, a tuple of groups, or a dict of named groups; `^` and `$` match at lines."""
    return [_shape(found) for found in re.finditer(pattern, str(value), re.MULTILINE)]


def _match(value: object, pattern: str) -> object:
    """The first match in the shape of `findall`, or none."""
    found = re.search(pattern, str(value), re.MULTILINE)
    return None if found is None else _shape(found)


def _shape(found: re.Match[str]) -> object:
    named = found.groupdict(default="")
    if named:
        return named
    groups = found.groups(default="")
    if len(groups) > 1:
        return groups
    return groups[0] if groups else found.group()


def _sub(value: object, pattern: str, replacement: str) -> str:
    return re.sub(pattern, replacement, str(value), flags=re.MULTILINE)


def _lines(value: object) -> list[str]:
    return str(value).splitlines()


def _json(value: object) -> object:
    return json.loads(str(value))


def _basename(value: object) -> str:
    return posixpath.basename(str(value))


def _dirname(value: object) -> str:
    return posixpath.dirname(str(value))


def _replace(value: object, old: str, new: str) -> str:
    found = str(value)
    _check_length(len(found) + found.count(old) * (len(new) - len(old)))
    return found.replace(old, new)


def _indent(value: object, width: int = 4, first: bool = False, blank: bool = False) -> str:
    found = str(value)
    _check_length(len(found) + (found.count("\n") + 1) * width)
    return do_indent(found, width, first, blank)


_FILTERS: dict[str, Callable[..., object]] = {
    "findall": _findall,
    "match": _match,
    "sub": _sub,
    "lines": _lines,
    "json": _json,
    "basename": _basename,
    "dirname": _dirname,
    "replace": _replace,
    "indent": _indent,
}


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox without operations that create a huge value in one step."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
        self.filters.update(_FILTERS)
        del self.filters["center"], self.filters["format"]
        del self.globals["lipsum"]

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        _check_operands(operator, left, right)
        return cast("object", super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: object) -> None:
        """Refuse methods that can make text longer than any limit; Jinja calls this before it returns a method."""
        if isinstance(value, BuiltinMethodType) and value.__name__ in _WIDENING and isinstance(value.__self__, str):
            raise SecurityError(
                f"`{value.__name__}` of text is unsafe here; use a filter, or text with {{{{ }}}} in it"
            )

    def getattr(self, obj: object, attribute: str) -> object:
        """A mapping's keys take precedence over its methods, so a result may be named `items`."""
        if isinstance(obj, Mapping) and attribute in obj:
            return cast("Mapping[str, object]", obj)[attribute]
        return cast("object", super().getattr(obj, attribute))


def _check_operands(operator: str, left: object, right: object) -> None:
    if operator == "%" and isinstance(left, str):
        raise SecurityError("`%` on text is not available; write the text with {{ }} in it")
    if operator == "*":
        for sequence, count in ((left, right), (right, left)):
            if isinstance(sequence, (str, list, tuple)) and isinstance(count, int):
                _check_length(len(cast("str | list[object]", sequence)) * count)
    if operator == "**" and isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * right)
    if operator == "*" and isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())


def _check_length(length: int) -> None:
    if length > MAX_TEXT:
        raise SecurityError(f"the value would be {length} long; the limit is {MAX_TEXT}")


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise SecurityError(f"the number would have {bits} bits; the limit is {MAX_BITS}")


_SANDBOX = _Sandbox()


def _keep_backslashes(source: str) -> str:
    r"""`source` with backslashes preserved in a template's text: `'\d'` and `'\b'` mean what they mean in a regex.

    Only a backslash before a backslash, a quote, n, r or t keeps Jinja's meaning.
    """
    return _CODE.sub(lambda code: _BACKSLASHED.sub(_kept, code[0]), source)


def _kept(found: re.Match[str]) -> str:
    return found[0] if found["plain"] is None else "\\\\"


def single_expression(source: str) -> str | None:
    """The expression of a text that is exactly one `{{ expression }}`, else None; raises TemplateProblem."""
    try:
        tokens = list(_SANDBOX.lex(_keep_backslashes(source.strip())))
    except TemplateSyntaxError as error:
        raise TemplateProblem(_syntax(error)) from None
    kinds = [kind for _, kind, _ in tokens]
    if kinds.count("variable_begin") != 1 or kinds[0] != "variable_begin" or kinds[-1] != "variable_end":
        return None
    return "".join(text for _, _, text in tokens[1:-1])


def check(source: str) -> None:
    """Check the syntax of `source`; raises TemplateProblem."""
    _text_of(source)
    _value_of(source)


@lru_cache(maxsize=4096)
def _text_of(source: str) -> Callable[[Mapping[str, object]], Iterator[str]]:
    try:
        template = _SANDBOX.from_string(_keep_backslashes(source))
    except TemplateSyntaxError as error:
        raise TemplateProblem(_syntax(error)) from None
    except (TemplateError, RecursionError, ValueError, OverflowError, SyntaxError, MemoryError) as error:
        raise TemplateProblem(f"the template cannot be read: {_say(error)}") from None
    return template.generate


@lru_cache(maxsize=4096)
def _value_of(source: str) -> Callable[[Mapping[str, object]], object] | None:
    expression = single_expression(source)
    if expression is None:
        return None
    try:
        return _SANDBOX.compile_expression(expression, undefined_to_none=False)
    except TemplateSyntaxError as error:
        raise TemplateProblem(_syntax(error)) from None
    except (TemplateError, RecursionError, ValueError, OverflowError, SyntaxError, MemoryError) as error:
        raise TemplateProblem(f"the expression cannot be read: {_say(error)}") from None


def _syntax(error: TemplateSyntaxError) -> str:
    return f"template syntax: {error.message}" + (f" (line {error.lineno} of the text)" if error.lineno > 1 else "")


def _say(error: BaseException) -> str:
    return str(error) or type(error).__name__


def text(source: str, variables: Mapping[str, object]) -> str:
    """`source` rendered as text of at most `MAX_TEXT` characters; raises TemplateProblem."""
    if "{" not in source:
        return source
    pieces: list[str] = []
    size = 0
    with _explained(variables):
        for piece in _text_of(source)(variables):
            size += len(piece)
            _check_length(size)
            pieces.append(piece)
    return "".join(pieces)


def value(source: str, variables: Mapping[str, object]) -> object:
    """The value itself of a text that is exactly one `{{ expression }}`, else the rendered text.

    The result can be written as JSON. Raises TemplateProblem.
    """
    if "{" not in source:
        return source
    expression = _value_of(source)
    if expression is None:
        return text(source, variables)
    with _explained(variables):
        found = expression(variables)
        return _plain(found, [MAX_TEXT])


def _plain(found: object, left: list[int]) -> object:
    """`found` as a JSON value: text, numbers, lists and maps; `left` is its remaining size budget."""
    left[0] -= len(found) if isinstance(found, str) else 1
    if left[0] < 0:
        raise TemplateProblem(f"the value is larger than {MAX_TEXT} characters")
    if isinstance(found, float) and not isfinite(found):
        raise TemplateProblem(f"the value is {found}, which is not a finite number")
    if found is None or isinstance(found, (bool, int, float)):
        return found
    if isinstance(found, str):
        return str(found)
    if isinstance(found, Mapping):
        return {str(key): _plain(item, left) for key, item in cast("Mapping[object, object]", found).items()}
    if isinstance(found, Undefined):
        return str(found)  # raises on undefined names; an `if` without `else` is empty
    if hasattr(found, "__iter__"):
        return [_plain(item, left) for item in cast("list[object]", found)]
    raise TemplateProblem(f"the value is a {type(found).__name__}; make text, a number, a list or a map of it")


@contextlib.contextmanager
def _explained(variables: Mapping[str, object]) -> Generator[None]:
    """Turn everything that a template can raise into a TemplateProblem."""
    try:
        yield
    except TemplateProblem:
        raise
    except MemoryError:
        raise TemplateProblem("the template needs more memory than a rehearsal may use") from None
    except Exception as error:  # noqa: BLE001 - an expression may raise anything; the script is always at fault and is told so
        if isinstance(error, SecurityError):
            raise TemplateProblem(str(error)) from None
        if isinstance(error, UndefinedError):
            raise TemplateProblem(f"{error}; {_known(variables)}") from None
        raise TemplateProblem(f"{type(error).__name__}: {_say(error)}") from None


def _known(variables: Mapping[str, object]) -> str:
    results = variables.get("results")
    names = sorted(cast("Mapping[str, object]", results)) if isinstance(results, Mapping) else []
    return f"known here: {', '.join(sorted(variables))}; results so far: {', '.join(names) or 'none'}"


@contextlib.contextmanager
def bounded_cpu(seconds: float = CPU_SECONDS) -> Generator[None]:
    """Stop the enclosed work with TemplateProblem after `seconds` of processor time (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        raise TemplateProblem(f"the templates of one request took more than {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
