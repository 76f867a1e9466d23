"""What is printed: results on standard output, notes and progress bars on standard error."""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm


def note(options: Namespace, text: str) -> None:
    """Say something on standard error, unless --quiet."""
    if not options.quiet:
        print(text, file=sys.stderr)


def progress_bar(options: Namespace, name: str, n_rows: int) -> Any:
    """Bar that counts rows, for terminals."""
    is_shown = not options.quiet and sys.stderr.isatty()
    return tqdm(total=n_rows, desc=name, unit="row", disable=not is_shown)


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
