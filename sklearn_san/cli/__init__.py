"""The command line ``sklearn-san``: models of tables in files, without a line of Python.

=============  ==============================================================================
``fit``        a model file from a table
``sample``     draws from p(y | x) for each row of a table
``predict``    means, standard deviations, quantiles, modes and densities for each row
``score``      mean log-likelihood and CRPS of a table whose targets are known
``calibrate``  calibration report of a table whose targets are known
``info``       what is in a model file
=============  ==============================================================================

Everything that can be checked is checked before anything is computed, and a file is written whole
or not at all. Standard output has results alone.

=========  ==================================================================================
exit code  meaning
=========  ==================================================================================
0          done
1          failed; one line on standard error says why
2          the command line or the configuration file is wrong
130        stopped by Ctrl-C
=========  ==================================================================================

torch and scikit-learn, which take seconds to import, are imported by the functions that compute.
"""

from __future__ import annotations

import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from .parser import make_parser
from .tables import UsageError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    int
        Exit code.

    Examples
    --------
    >>> main(["--version"])
    sklearn-san ...
    0
    """
    try:
        options = make_parser().parse_args(argv)
        return _run(options)
    except SystemExit as stop:  # argparse has said why
        return stop.code if isinstance(stop.code, int) else 0


def _run(options: Namespace) -> int:
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        # Nothing is kept of a training that is stopped: half of one is not worth the model that it
        # would take the place of.
        warnings.filterwarnings("ignore", message="Training was interrupted")
        # Without pandas there are no frames, but the columns are the right ones all the same.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        try:
            options.command(options)
            sys.stdout.flush()
        except UsageError as error:
            options.parser.error(str(error))
        except BrokenPipeError:  # whoever read the results has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except KeyboardInterrupt:
            print("sklearn-san: stopped", file=sys.stderr)
            return 130
        except Exception as error:
            if options.debug:
                raise
            print(f"sklearn-san: error: {_one_line(error)}", file=sys.stderr)
            return 1
    return 0


def _show_warning(message: Any, *_: Any) -> None:
    print(f"sklearn-san: warning: {_one_line(message)}", file=sys.stderr)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, (ValueError, TypeError, OSError, ImportError, Warning)) and text:
        return text
    return f"{type(error).__name__} {text}".strip()
