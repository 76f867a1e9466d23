"""``python -m sklearn_san`` is the command ``sklearn-san``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
