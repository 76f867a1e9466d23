"""What is printed: results on standard output, notes and progress bars on standard error."""

from __future__ import annotations

import json
import math
import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

#: Seconds between two lines.
INTERVAL = 30.0


def note(options: Namespace, text: str) -> None:
    """Say something on standard error, unless --quiet."""
    if not options.quiet:
        print(text, file=sys.stderr)


class _Lines:
    """A line now and then that counts rows, where there is no terminal for a bar."""

    def __init__(self, name: str, n_rows: int):
        self.name, self.n_rows = name, n_rows
        self.n, self.start = 0.0, time.monotonic()
        self.last = self.start

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def update(self, n: float) -> None:
        """Count some rows more."""
        self.n += n
        now = time.monotonic()
        if now - self.last >= INTERVAL and self.n < self.n_rows:
            left = (now - self.start) * (self.n_rows / max(self.n, 1e-9) - 1.0)
            text = f"{self.name}: {int(self.n)} of {self.n_rows} rows, about {left:.0f} s left"
            print(text, file=sys.stderr, flush=True)
            self.last = now


def progress_bar(options: Namespace, name: str, n_rows: int) -> Any:
    """What counts rows: a bar on terminals, elsewhere a line every half a minute."""
    if options.quiet or sys.stderr.isatty():
        return tqdm(total=n_rows, desc=name, unit="row", disable=options.quiet)
    return _Lines(name, n_rows)


def print_lines(lines: Mapping[str, str]) -> None:
    """Print names and texts in two columns."""
    width = max(map(len, lines)) + 2
    for name, text in lines.items():
        print(f"{name:<{width}}{text}")


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def plain(value: Any) -> Any:
    """What JSON can hold; null for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else short(value)


def short(value: Any) -> str:
    """Representation in one line."""
    return " ".join(repr(value).split())
