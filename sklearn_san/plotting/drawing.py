"""What all pictures share: matplotlib on demand, panels, colours, ticks and labels.

Text and background have the colours of the user's settings of matplotlib, and what is grey or has a
colour of its own can be seen on light and dark ones.

===================  ====================================================================
`pyplot`             matplotlib, imported when a picture is drawn and not before
`ink`, `paper`       colours of text and background
`palette`            colours that can be told apart, best on the background first
`Panels`             one axes for each output, in a new figure or in axes that are given
`axis_label`         "name [unit]"
`interval_text`      "median +upper -lower" with the digits that count
===================  ====================================================================
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Colours that colour-blind readers can tell apart (Okabe and Ito), best on white first.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
#: Rows that one picture can tell apart.
MAX_ROWS = len(COLOURS)
#: Of true values, wherever there is only one row.
TRUTH = "#D55E00"
#: The order in which they are best seen on black.
ON_DARK = (4, 1, 2, 3, 0, 5, 6)
#: Of reference lines.
REFERENCE = "#808080"
#: How much of the colour of text is in bands, and in what lies outside the limits.
FAINT = 0.15


def pyplot() -> Any:
    """The module ``matplotlib.pyplot``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'Pictures need matplotlib; install it with `pip install "sklearn-san[plot]"`.'
        ) from error
    return plt


def ink() -> str:
    """Colour of text."""
    return str(pyplot().rcParams["text.color"])


def paper() -> str:
    """Colour of the background of panels."""
    return str(pyplot().rcParams["axes.facecolor"])


def palette() -> tuple[str, ...]:
    """`COLOURS`, of which black gives way to the colour of text."""
    from matplotlib.colors import to_rgb

    if np.dot(to_rgb(paper()), (0.2126, 0.7152, 0.0722)) > 0.4:
        return (*COLOURS[:-1], ink())
    return tuple(ink() if k == len(COLOURS) - 1 else COLOURS[k] for k in ON_DARK)


def shades(colour: Any) -> Any:
    """Colours from that of the background over `colour` to one towards that of text."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    strong = 0.5 * (np.array(to_rgb(colour)) + to_rgb(ink()))
    stops = [(0.0, to_rgb(paper())), (0.75, to_rgb(colour)), (1.0, (*strong,))]
    return LinearSegmentedColormap.from_list("shades", stops)


@dataclass(frozen=True)
class Panels:
    """Axes of a picture with one panel for each output.

    Parameters
    ----------
    figure : matplotlib Figure
    axes : ndarray of shape (n_panels,)
    n_columns : int
        Panels in a row; 0 where the axes were given, whose arrangement is the user's.
    """

    figure: Any
    axes: np.ndarray
    n_columns: int

    @classmethod
    def make(cls, n_panels: int, ax: Any, size: tuple[float, float]) -> Panels:
        """Panels of `size` inches in a new figure, or in the axes `ax`.

        Raises
        ------
        ValueError
            If `ax` holds neither one axes nor one for each panel.
        """
        n_columns = n_panels if n_panels <= 3 else math.ceil(math.sqrt(n_panels))
        n_rows = math.ceil(n_panels / n_columns)
        if ax is None:
            figure = pyplot().figure(
                figsize=(size[0] * n_columns, size[1] * n_rows), layout="constrained"
            )
            figure.get_layout_engine().set(w_pad=0.07, h_pad=0.08)  # inches
            axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        else:
            axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
            if len(axes) == n_panels:
                return cls(axes[0].figure, axes, 0)
            figure, place = single_place(ax, n_panels)
            axes = place.subgridspec(n_rows, n_columns).subplots(squeeze=False).ravel()
        for spare in axes[n_panels:]:
            spare.remove()
        return cls(figure, axes[:n_panels], n_columns)

    def label(self, x_label: str, y_label: str, *, shared: bool) -> None:
        """Label the outer panels; with `shared` scales, only they keep their tick labels."""
        n_panels = len(self.axes)
        for index, axis in enumerate(self.axes):
            bottom = self.n_columns == 0 or index + self.n_columns >= n_panels
            left = self.n_columns == 0 or index % self.n_columns == 0
            if bottom:
                axis.set_xlabel(x_label)
            if left:
                axis.set_ylabel(y_label)
            if shared:
                axis.tick_params(labelbottom=bottom, labelleft=left)


def single_place(ax: Any, n_panels: int) -> tuple[Any, Any]:
    """Figure and place of a single axes, which is switched off to make room for panels."""
    given = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    place = given[0].get_subplotspec() if len(given) == 1 else None
    if place is None:
        raise ValueError(
            f"ax holds {len(given)} axes, but the picture has {n_panels} panels; give a single "
            "axes out of a grid of subplots, which is divided."
        )
    given[0].set_axis_off()
    return given[0].figure, place


def size_in_inches(axis: Any) -> tuple[float, float]:
    """Width and height of axes."""
    box = axis.get_window_extent()
    return box.width / axis.figure.dpi, box.height / axis.figure.dpi


def fitting_size(text: str, inches: float, largest: float = 9.0) -> float:
    """Font size at which a label fits; a letter is about 0.58 times as wide as high."""
    letters = len(re.sub(r"\\[a-zA-Z]+", "x", text).translate(str.maketrans("", "", "${}_^")))
    return max(min(largest, 72.0 * inches / (0.58 * max(letters, 1))), 4.0)


def shade_outside(span: Callable[..., Any], view: tuple[float, float], limits: np.ndarray) -> None:
    """Shade what of the view lies outside the limits; `span` is axvspan or axhspan."""
    for end, limit in zip((min, max), limits, strict=True):
        if end(end(view), limit) != limit:
            span(end(view), limit, color=(ink(), FAINT), lw=0, zorder=0)


def draw_density(
    axis: Any,
    grid: np.ndarray,
    density: np.ndarray,
    colour: Any,
    pieces: np.ndarray,
    opacity: float = 0.2,
) -> Any:
    """Curve of a density (n_points,), shaded, and darker in `pieces` (n_pieces, 2)."""
    axis.fill_between(grid, density, color=(colour, opacity), lw=0)
    for low, high in pieces:
        inner = np.linspace(low, high, 200)
        filled = np.interp(inner, grid, density)
        axis.fill_between(inner, filled, color=(colour, 1.5 * opacity), lw=0)
    return axis.plot(grid, density, color=colour, lw=1.3)[0]


def check_level(level: Any, name: str = "level") -> float:
    """A probability strictly between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {level!r}.")
    return float(level)


def check_option(name: str, value: Any, options: Sequence[str]) -> None:
    """Raise unless `value` is one of `options`."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {value!r}.")


def longest_tick_label(axis: Any) -> int:
    """Letters of the longest tick label of an xaxis or yaxis."""
    labels = axis.get_major_formatter().format_ticks(axis.get_majorticklocs())
    return max(map(len, labels), default=0)


def check_names(names: Any, units: Any, n_outputs: int) -> tuple[list[str], list[str]]:
    """Name and unit of each output; names are y0, y1, ... where none are given.

    Raises
    ------
    ValueError, TypeError
        If the number of names is wrong, or `units` is no dict of such names.
    """
    names = [f"y{j}" for j in range(n_outputs)] if names is None else list(map(str, names))
    if len(names) != n_outputs:
        raise ValueError(f"output_names has {len(names)} entries for {n_outputs} outputs.")
    units = {} if units is None else units
    if not isinstance(units, Mapping):
        raise TypeError(f"units must be a dict from output name to unit, got {units!r}.")
    unknown = [key for key in units if key not in names]
    if unknown:
        raise ValueError(
            f"units names {unknown[0]!r}, which is not an output shown; they are "
            f"{', '.join(names)}."
        )
    return names, [units.get(name) or "" for name in names]


def axis_label(name: str, unit: str, power: int = 0) -> str:
    """``"name [unit]"``, with the power of ten that tick labels leave out."""
    if power:
        unit = rf"$10^{{{power}}}$ {unit}".strip()
    return f"{name} [{unit}]" if unit else name


def power_of_ten(view: tuple[float, float]) -> int:
    """Power of ten to take out of tick labels; 0 for numbers of common size."""
    largest = max(abs(view[0]), abs(view[1]))
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    return power if power >= 5 or power <= -3 else 0


def set_ticks(
    axis: Any, view: tuple[float, float], font_size: float = 8.0, overhang: float = 0.12
) -> None:
    """Give an xaxis or yaxis few ticks, and leave `power_of_ten` to its label."""
    from .ticks import SparseLocator  # needs matplotlib

    power = power_of_ten(view)
    axis.set_major_locator(SparseLocator(4, power, font_size, overhang))
    style = {"style": "sci", "scilimits": (power, power)} if power else {"style": "plain"}
    axis.axes.ticklabel_format(axis=axis.axis_name, useOffset=False, **style)
    axis.set_tick_params(labelsize=font_size)
    axis.get_offset_text().set_visible(False)  # the last word: set_tick_params shows it


def pick_colours(colors: Any, n: int) -> list[Any]:
    """One colour for each of `n` things: `colors`, a single one or a list, or the default."""
    if colors is None:
        colours = palette()
        return [colours[i % len(colours)] for i in range(n)]
    chosen = [colors] if isinstance(colors, str) else list(colors)
    if len(chosen) < n:
        raise ValueError(f"colors has {len(chosen)} entries, but {n} are needed.")
    return chosen[:n]


def pieces_text(pieces: np.ndarray) -> str:
    """``low to high or low to high`` for intervals (n_pieces, 2), two digits of the widths."""
    largest = float(np.abs(pieces).max())
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    power = power if power >= 5 or power <= -4 else 0
    pieces = pieces / 10.0**power
    width = float(np.diff(pieces, axis=1).min())
    digits = int(np.clip(1 - math.floor(math.log10(width)), 0, 4)) if width > 0 else 3
    texts = [f"{low:.{digits}f} to {high:.{digits}f}" for low, high in pieces + 0.0]
    text = " or ".join(texts)
    return text if power == 0 else rf"({text}) $\times10^{{{power}}}$"


def limits_text(low: float, high: float) -> str:
    """``low to high``, or what there is of it."""
    if np.isfinite([low, high]).all():
        return f"{low:.3g} to {high:.3g}"
    if np.isfinite(low):
        return f"from {low:.3g}"
    return f"up to {high:.3g}" if np.isfinite(high) else "none"


def interval_text(median: float, low: float, high: float) -> str:
    """``median +upper -lower`` as mathtext, two digits of the smaller error."""
    errors = np.array([high - median, median - low])
    largest = max(abs(median), *errors)
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    power = power if power >= 5 or power <= -4 else 0
    errors, median = errors / 10.0**power, median / 10.0**power
    seen = errors[errors > 1e-9 * largest / 10.0**power]
    digits = 3
    if len(seen):
        first = [math.floor(math.log10(error)) for error in (seen.max(), seen.min())]
        digits = int(np.clip(1 - first[1], 0, max(2 - first[0], 0)))
    median = round(median, digits) + 0.0  # no negative zero
    text = f"{median:.{digits}f}^{{+{errors[0]:.{digits}f}}}_{{-{errors[1]:.{digits}f}}}"
    return f"${text}$" if power == 0 else rf"$({text})\times10^{{{power}}}$"
