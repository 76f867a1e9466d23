"""Size and shape of the code: ``python benchmarks/structure.py``.

Prints Markdown: lines per file, the longest function, the most arguments of a compiled kernel, and
how many files of the package each public capability runs through. To compare states, run it with
``PYTHONPATH`` at another checkout.
"""

from __future__ import annotations

import ast
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import sklearn_san
from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import make_bimodal

PACKAGE = Path(sklearn_san.__file__).parent


def functions() -> list[tuple[str, ast.FunctionDef]]:
    """All functions with the files they are in."""
    return [
        (path.relative_to(PACKAGE).as_posix(), node)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]


def lines_of(function: ast.FunctionDef) -> int:
    """Lines of code, the docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def is_kernel(function: ast.FunctionDef) -> bool:
    """Whether a decorator compiles it."""
    text = " ".join(ast.unparse(decorator) for decorator in function.decorator_list)
    return any(word in text for word in ("njit", "kernel", "piece"))


def files_of(call: Callable[[], Any]) -> set[str]:
    """Files of the package in which functions run during a call."""
    seen: set[str] = set()

    def remember(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            seen.add(frame.f_code.co_filename)

    sys.setprofile(remember)
    try:
        call()
    finally:
        sys.setprofile(None)
    return seen


def capabilities() -> dict[str, Callable[[], Any]]:
    """What users do."""
    X, y, _ = make_bimodal(300, random_state=0)
    parameters = {"K": 3, "module_shape": (8,), "epochs": 1, "n_members": 1, "random_state": 0}
    new = lambda: SANConditionalDensityEstimator(**parameters)  # noqa: E731
    est = new().fit(X, y)
    est.sample(X, 2)
    path = Path(tempfile.mkdtemp(), "model.safetensors")
    return {
        "fit": lambda: new().fit(X, y),
        "fit from batches": lambda: new().fit([(X[:150], y[:150]), (X[150:], y[150:])]),
        "log_prob": lambda: est.log_prob(X, y),
        "sample": lambda: est.sample(X, 2),
        "predict": lambda: est.predict(X),
        "save and load": lambda: (est.save(path), est.load(path)),
    }


def main() -> None:
    files = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    largest = max(files, key=lambda path: files[path])
    longest = max(functions(), key=lambda pair: lines_of(pair[1]))
    kernels = [node for _, node in functions() if is_kernel(node)]
    widest = max(kernels, key=lambda node: len(node.args.args))
    rows = [
        ("files, lines", f"{len(files)}, {sum(files.values()):,}"),
        ("lines per file, median", f"{median(files.values()):.0f}"),
        ("largest file", f"{largest.relative_to(PACKAGE).as_posix()}, {files[largest]} lines"),
        ("longest function", f"{longest[1].name}, {lines_of(longest[1])} lines"),
        ("most arguments of a kernel", f"{widest.name}, {len(widest.args.args)}"),
    ]
    rows += [
        (f"files that `{name}` runs through", str(len(files_of(call))))
        for name, call in capabilities().items()
    ]
    print("| what | value |\n|---|---|")
    for row in rows:
        print(f"| {row[0]} | {row[1]} |")


if __name__ == "__main__":
    main()
