"""What pictures are drawn from: densities of an estimator, and checked arrays.

====================  =================================================================
`density_of`          ``predict_density`` of an estimator, or of what is inside a Pipeline or search
`fitted_of`           the fitted density estimator inside
`draw`, `as_rows`     draws and truth of the chosen outputs, whatever the shape of y at fit
`marginals_of`        marginal densities of a few rows, from the model itself
`check_pair`          truth and draws of many rows
`check_row_draws`     draws of a few rows
====================  =================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import chains
from .._tables import in_order, without_mask
from ..chains import inner_estimator
from .drawing import MAX_ROWS

#: Points of a marginal density for each row, and draws of the other outputs behind it. Of so few
#: as are the default elsewhere, single ones can be seen as ripples of a curve.
N_OWN_POINTS, N_OTHERS = 161, 8192
#: Mass beyond their grid on each side.
CUT = 0.0005


def density_of(estimator: Any, X: Any) -> Any:
    """Conditional density of the rows of X; a Pipeline transforms X first."""
    if not hasattr(inner_estimator(estimator)[0], "predict_density"):
        raise TypeError(
            f"estimator must have a method predict_density, which {estimator!r} lacks; draws of "
            "other models can be shown with from_predictions."
        )
    return chains.density_of(estimator, X)


def fitted_of(estimator: Any) -> Any:
    """The fitted density estimator, inside a Pipeline or search if there is one."""
    return getattr(chains.predictor_of(estimator), "estimator_", estimator)


def select(outputs: Any, names: Sequence[str]) -> np.ndarray:
    """Column numbers of `outputs`, given by number or name; None means all."""
    if outputs is None:
        return np.arange(len(names))
    wanted = [outputs] if isinstance(outputs, (str, int, np.integer)) else list(outputs)
    columns = []
    for entry in wanted:
        numbered = dict(enumerate(names)) if not isinstance(entry, str) else names
        if isinstance(entry, (bool, float)) or entry not in numbered:
            raise ValueError(
                f"outputs names {entry!r}, but the outputs are {', '.join(names)}; give such names "
                f"or column numbers from 0 to {len(names) - 1}."
            )
        columns.append(list(names).index(entry) if isinstance(entry, str) else int(entry))
    if not columns:
        raise ValueError("outputs is empty; name at least one output, or None for all.")
    return np.array(columns)


def chosen_names(density: Any, columns: np.ndarray, output_names: Any) -> list[str]:
    """`output_names`, or else the density's own names of `columns`."""
    if output_names is not None:
        return list(output_names)
    return [density.output_names[j] for j in columns]


def draw(density: Any, columns: np.ndarray, n_draws: int, random_state: Any) -> np.ndarray:
    """Draws of some outputs, (n_rows, n_draws, n_columns)."""
    draws = np.asarray(density.sample(n_draws, random_state=random_state))
    return as_numbers(draws.reshape(len(density), n_draws, -1)[..., columns], "draws")


def marginals_of(density: Any, columns: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Grid (n_points,) and densities (n_rows, n_points) of some outputs, from the model itself.

    Points are dense where any row has its mass, but for a thousandth. None if the density cannot
    evaluate marginals on a grid, or some outputs may have probabilities instead.
    """
    if not hasattr(density, "pdf_grid") or not getattr(density, "is_continuous", True):
        return None
    ends = np.asarray(density.quantile([CUT, 1.0 - CUT])).reshape(len(density), 2, -1)
    curves = []
    for j in columns:
        own = ends[:, :, j] + 0.1 * np.diff(ends[:, :, j], axis=1) * [-1.0, 1.0]
        every = np.array([[own[:, 0].min(), own[:, 1].max()]])
        low, high = np.concatenate([own, every]).T
        points = np.linspace(low, high, N_OWN_POINTS)
        grid = np.unique(np.clip(points, *density.limits[j]))
        curves.append((grid, np.asarray(density.pdf_grid(int(j), grid, n_draws=N_OTHERS))))
    return curves


def as_rows(y: Any, density: Any, columns: np.ndarray) -> np.ndarray:
    """Some columns of y, (n_rows, n_columns); y may be one-dimensional for one output."""
    y = np.asarray(in_order(y, density.output_names))
    shape = (len(density), density.n_outputs)
    if y.shape != shape and not (y.ndim == 1 and y.size == shape[0] * shape[1]):
        raise ValueError(f"y must have shape {shape} to fit X and the estimator, got {y.shape}.")
    return as_numbers(y.reshape(shape)[:, columns], "y")


def as_numbers(values: Any, name: str, n_dimensions: int | None = None) -> np.ndarray:
    """`values` as finite float64.

    Raises
    ------
    TypeError, ValueError
        For labels, for values that are not finite, for an empty array and for another number
        of dimensions.
    """
    try:
        array = np.asarray(without_mask(values), dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} must be a regular array of numbers; leave outputs of labels out of pictures."
        ) from None
    if n_dimensions is not None and array.ndim != n_dimensions:
        raise ValueError(f"{name} must have {n_dimensions} dimensions, got shape {array.shape}.")
    if array.size == 0:
        raise ValueError(f"{name} is empty, with shape {array.shape}.")
    if not np.isfinite(array).all():
        n_bad = int((~np.isfinite(array)).sum())
        raise ValueError(f"{name} has {n_bad} values that are not finite; drop those rows.")
    return array


def check_pair(y: Any, draws: Any) -> tuple[np.ndarray, np.ndarray]:
    """Truth (n_rows, n_outputs) and draws (n_rows, n_draws, n_outputs) that fit each other."""
    y, draws = as_numbers(y, "y"), as_numbers(draws, "draws")
    if y.ndim == 1 and draws.ndim == 2:
        y, draws = y[:, None], draws[..., None]
    if y.ndim != 2 or draws.ndim != 3 or y.shape != (len(draws), draws.shape[2]):
        raise ValueError(
            "y must have shape (n_rows, n_outputs) and draws (n_rows, n_draws, n_outputs); got "
            f"{y.shape} and {draws.shape}."
        )
    return y, draws


def check_n_rows(n_rows: int) -> None:
    """Raise if a picture of single rows were to show none or too many."""
    if not 1 <= n_rows <= MAX_ROWS:
        raise ValueError(
            f"There are {n_rows} rows, but this picture shows 1 to {MAX_ROWS}; choose some of "
            "them, for instance X[:1]."
        )


def check_row_draws(draws: Any) -> list[np.ndarray]:
    """Draws of each of a few rows, (n_draws, n_outputs) with the same number of outputs."""
    draws = draws if isinstance(draws, (list, tuple)) else np.asarray(draws)
    if len(draws) and np.ndim(draws[0]) == 1:
        draws = [draws]
    check_n_rows(len(draws))
    parts = [as_numbers(part, f"draws of row {row}", 2) for row, part in enumerate(draws)]
    n_outputs = sorted({part.shape[1] for part in parts})
    if len(n_outputs) > 1:
        raise ValueError(f"draws of different rows have different numbers of outputs: {n_outputs}.")
    return parts


def check_inside(parts: list[np.ndarray], limits: np.ndarray, names: list[str]) -> None:
    """Raise if draws lie outside the limits that the picture would draw."""
    for j, (low, high) in enumerate(limits):
        n_outside = sum(int(((p[:, j] < low) | (p[:, j] > high)).sum()) for p in parts)
        if n_outside:
            raise ValueError(
                f"draws has {n_outside} values outside limits for output {j} ({names[j]}), which "
                f"allow [{low:g}, {high:g}]; widen the limits or drop those draws."
            )


def check_row_truth(y: Any, parts: list[np.ndarray]) -> np.ndarray | None:
    """Truth (n_rows, n_outputs) of a few rows; a single one is that of all."""
    if y is None:
        return None
    y = np.atleast_2d(as_numbers(y, "y"))
    shape = (len(parts), parts[0].shape[1])
    if y.shape not in (shape, (1, shape[1])):
        raise ValueError(f"y must have shape {shape} to fit the draws, got {y.shape}.")
    return np.broadcast_to(y, shape)


def check_row_names(row_names: Any, n_rows: int) -> list[str]:
    """Name of each of a few rows."""
    if row_names is None:
        return ["posterior"] if n_rows == 1 else [f"row {row}" for row in range(n_rows)]
    names = [row_names] if isinstance(row_names, str) else list(map(str, row_names))
    if len(names) != n_rows:
        raise ValueError(f"row_names has {len(names)} entries for {n_rows} rows.")
    return names


def check_limits(limits: Any, n_outputs: int) -> np.ndarray:
    """Limits (n_outputs, 2), infinite where there is none."""
    if limits is None:
        return np.tile([-np.inf, np.inf], (n_outputs, 1))
    array = np.asarray(limits, dtype=np.float64)
    if array.shape != (n_outputs, 2):
        raise ValueError(
            f"limits must have shape ({n_outputs}, 2), a lower and an upper one for each output; "
            f"got {array.shape}."
        )
    return array
