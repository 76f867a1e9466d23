"""What the results of diagnostics share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any


class Result(ABC):
    """Short `repr`, and the summary where the result is printed."""

    pvalue: Any

    def __repr__(self) -> str:
        return f"{type(self).__name__}(pvalue={self.pvalue:.3g})"

    def __str__(self) -> str:
        return self.summary()

    @abstractmethod
    def summary(self) -> str:
        """Result as text."""


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Markdown table with aligned columns; numbers to three digits."""
    cells = [[f"{c:.3g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    lines = [header, ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
