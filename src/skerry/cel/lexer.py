"""From text to tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from skerry.cel.errors import CompileError, issue

MAX_SOURCE = 16 * 1024
"""Characters of an expression; Kubernetes' own bound."""

RESERVED = frozenset(
    {
        "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package",
        "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n\f]+|//[^\n]*)
  | (?P<string>[bB]?[rR]?(?:\"\"\"[\s\S]*?(?<!\\)\"\"\"|'''[\s\S]*?(?<!\\)'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
     |[rR][bB]?(?:"[^"\n]*"|'[^'\n]*'))
  | (?P<float>(?:\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?))
  | (?P<uint>(?:0x[0-9a-fA-F]+|\d+)[uU])
  | (?P<int>0x[0-9a-fA-F]+|\d+)
  | (?P<ident>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<quoted>`[A-Za-z0-9_.\-/ ]+`)
  | (?P<op>\[\?|\.\?|&&|\|\||==|!=|<=|>=|[-+*/%!<>()\[\]{}.,:?])
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|X[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|.)", re.DOTALL
)
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "?": "?", '"': '"', "'": "'", "`": "`",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    """One token: ``kind`` is ``ident int uint float string bytes quoted op end``."""

    kind: str
    text: str
    at: int
    value: Any = None


def tokens(source: str) -> list[Token]:
    """Every token, with an ``end`` at last.

    Raises:
        CompileError: too long, or a character that starts no token.
    """
    if len(source) > MAX_SOURCE:
        raise CompileError(f"expression of {len(source)} characters is longer than {MAX_SOURCE}")
    found: list[Token] = []
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise CompileError(issue(source, at, f"Syntax error: token recognition error at: {source[at]!r}"))
        kind = str(match.lastgroup)
        text = match[0]
        if kind != "space":
            found.append(_token(source, kind, text, at))
        at = match.end()
    found.append(Token("end", "", len(source)))
    return found


def _token(source: str, kind: str, text: str, at: int) -> Token:
    match kind:
        case "int" | "uint":
            number = int(text.rstrip("uU"), 0) if text.startswith("0x") else int(text.rstrip("uU"))
            return Token(kind, text, at, number)
        case "float":
            return Token(kind, text, at, float(text))
        case "quoted":
            return Token(kind, text[1:-1], at)
        case "string":
            return _string(source, text, at)
    return Token(kind, text, at)


def _string(source: str, text: str, at: int) -> Token:
    head = text[: len(text) - len(text.lstrip("bBrR"))].lower()
    body = text[len(head) :]
    quote = body[:3] if body[:3] in ('"""', "'''") and len(body) >= 6 else body[:1]
    inner = body[len(quote) : -len(quote)]
    is_bytes = "b" in head
    try:
        if "r" in head:
            value: Any = inner.encode() if is_bytes else inner
        elif is_bytes:
            value = _byte_value(inner)
        else:
            value = _ESCAPE.sub(_unescape, inner)
    except (ValueError, KeyError) as exc:
        raise CompileError(issue(source, at, "Syntax error: invalid escape in literal")) from exc
    return Token("bytes" if is_bytes else "string", text, at, value)


def _unescape(match: re.Match[str]) -> str:
    code = match[0][1:]
    if code[0] in "xXuU":
        point = int(code[1:], 16)
        if 0xD800 <= point <= 0xDFFF or point > 0x10FFFF:
            raise ValueError("no character")
        return chr(point)
    if code[0].isdigit() and len(code) == 3:
        return chr(int(code, 8))
    return _SIMPLE[code]


def _byte_value(inner: str) -> bytes:
    parts: list[bytes] = []
    at = 0
    for match in _ESCAPE.finditer(inner):
        parts.append(inner[at : match.start()].encode())
        code = match[0][1:]
        if code[0] in "xX":
            parts.append(bytes([int(code[1:], 16)]))
        elif code[0].isdigit() and len(code) == 3:
            parts.append(bytes([int(code, 8)]))
        else:
            parts.append(_unescape(match).encode())
        at = match.end()
    parts.append(inner[at:].encode())
    return b"".join(parts)
