"""Print the lower bounds of pyproject.toml as constraints: ``python tests/oldest.py [torch==2.4]``.

They are those of the package and of its tests; a package that is named has the version named.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
LISTS = ("dependencies", "fits", "hdf5", "parquet", "plot", "test")


def lower_bounds() -> dict[str, str]:
    """Lowest version of each package; read as text, for Python 3.10 has no reader of TOML."""
    lists = dict(
        re.findall(r"^([a-z0-9-]+) = \[(.*?)\]\n", PROJECT.read_text(), re.DOTALL | re.MULTILINE)
    )
    return {
        name: version
        for key in LISTS
        for name, version in re.findall(r'"([A-Za-z0-9_.-]+)>=([0-9.]+)"', lists[key])
    }


def main() -> None:
    """Print a constraint a line."""
    instead = dict(text.split("==") for text in sys.argv[1:])
    for name, version in (lower_bounds() | instead).items():
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
