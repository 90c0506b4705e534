"""What can be wrong with an expression.

CelError
├── CompileError   it cannot be read, names something unknown, or its types do not fit
└── EvalError      it failed while running
    └── CostExceeded   it ran beyond its cost limit or deadline
"""

from __future__ import annotations

from skerry.base.errors import SkerryError


class CelError(SkerryError):
    """Root of the errors of expressions."""


class CompileError(CelError):
    """An expression that cannot run. The text has line and column, and shows the place."""


class EvalError(CelError):
    """A run that ended without a value."""


class CostExceeded(EvalError):
    """A run that was stopped because it took too much."""


def issue(source: str, at: int, text: str) -> str:
    """One message with its place, as cel-go words it.

    Args:
        at: offset in ``source``, in characters.
    """
    line = source.count("\n", 0, at) + 1
    start = source.rfind("\n", 0, at) + 1
    end = source.find("\n", at)
    shown = source[start : end if end >= 0 else len(source)]
    column = at - start
    return f"ERROR: <input>:{line}:{column + 1}: {text}\n | {shown}\n | {'.' * column}^"
