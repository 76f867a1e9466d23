"""What the saved state of each class must be, and how an instance is made of it.

A file may have been made up, and compiled kernels index without checks, so nothing of it is used
before it is known to be what the package itself could have written. A *state* is the attributes of
an instance by name. What it must be is declared in one `Rule` for each class: a `Kind` for each
attribute, with the sizes of arrays given by other attributes, and `Relation` for what attributes
must be to each other. Attributes without a kind are dropped, since nothing would have checked them.

===============  =======================================================================
`RULES`          of all classes whose state is taken as it is
`rebuild`        an instance from the name of its class and its state
`Rule.check`     the check alone, for what is no instance
`CLASSES`        all classes of which a file may hold instances
===============  =======================================================================

Those of networks and of the modules inside are in `_saved_networks`.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)
from torch import nn

from ._columns import FeatureTable, is_missing
from ._features import LEAST_KNOWN, Forest, Neighbours, PiecewiseLinear, TreeFeatures
from ._imputation import Imputer
from ._inputs import InputEncoder
from ._kinds import (
    ANY,
    COLUMNS,
    FALSE,
    FINITE,
    FINITES,
    FLAG,
    FLAGS,
    LEFT_OUT,
    NONE,
    POSITIVE,
    POSITIVES,
    RISING,
    SHARE,
    SHARES,
    TEXT,
    TEXTS,
    Kind,
    Relation,
    Rule,
    State,
    UnfitState,
    Values,
    array,
    given,
    instance,
    joined,
    listed,
    one_of,
    unfit,
    whole,
)
from ._network import ACTIVATIONS, SAN, Block, LayerNorm, Linear, LinearBase
from ._novelty import Novelty
from ._parts import WHOLE, Layout
from ._plain_trees import Record
from ._saved_networks import rebuild_network
from ._scaling import OWN_NAMES, SCALERS, SHORT_NAMES, OutputScaler, _ColumnScaler, _SkewScaler
from ._targets import TargetCodec
from .likelihoods import LIKELIHOODS, Inflated, Likelihood

_WORDS = Values("words of a generator's state", (np.uint32,))


def _are_categories(v: Any, _: State) -> bool:
    return type(v) is list and 0 < len(v) == len(set(v)) and not any(map(is_missing, v))


def _are_labels(v: Any, _: State) -> bool:
    """Whether codes can be searched for in v, and v indexed by them."""
    return (
        isinstance(v, np.ndarray)
        and v.ndim == 1
        and v.size > 0
        and not any(map(is_missing, v.tolist()))
        and np.array_equal(np.unique(v), v)
    )


_CATEGORIES = Kind("a list of different categories", _are_categories)
_LABELS = Kind("different labels in rising order", _are_labels)

RANDOM_STATE = Rule(
    {
        "bit_generator": one_of("MT19937"),
        "state": Kind(
            "the state of a Mersenne twister",
            lambda v, _: array(_WORDS, 624).holds(v["key"], v) and whole(0, 624).holds(v["pos"], v),
        ),
        "has_gauss": whole(0, 1),
        "gauss": FINITE,
    }
)

# Tables of the user


def _is_consistent_encoder(e: InputEncoder) -> bool:
    n_categories = sum(n for n in e.n_categories if n is not None)
    n_errors = len(e.numbers) if e.use_errors else 0
    n_states = int(e.missing.sum()) + int(e.infinite.sum())
    return e.n_plain == len(e.numbers) + n_categories + n_states + n_errors


def _has_inverse(i: Imputer) -> bool:
    symmetric = np.allclose(i.precision, i.precision.T, rtol=1e-6, atol=0.0)
    return symmetric and bool((np.linalg.eigvalsh(i.precision) > 0).all())


def _is_named(v: Any, _: State) -> bool:
    return type(v) is dict and all(isinstance(name, str) for name in v)


def _is_shape(v: Any) -> bool:
    return type(v) is tuple and len(v) > 0 and all(whole(1).holds(n, {}) for n in v)


_N = "n_features_in_"


def _is_fitted_to(scaler: Any, n_columns: int) -> bool:
    """Whether a scaler takes so many columns; tries it, as its versions differ."""
    if getattr(scaler, _N, None) != n_columns:
        return False
    ones = np.ones((1, n_columns))
    return all(
        np.shape(f(ones)) == (1, n_columns) for f in (scaler.transform, scaler.inverse_transform)
    )


def _scaler(**kinds: Kind) -> Rule:
    """Rule of a scaler of scikit-learn; what it learned is there only when it is fitted."""

    def learned(kind: Kind) -> Kind:
        return Kind(kind.words, lambda v, s: _N not in s or kind.holds(v, s))

    return Rule(
        {_N: LEFT_OUT | whole(1)}
        | {name: learned(kind) if name.endswith("_") else kind for name, kind in kinds.items()},
        is_open=True,
    )


def _has_slope_of_affine(scaler: _ColumnScaler) -> bool:
    again = _ColumnScaler(None).adopt(scaler.affine)
    return np.shape(again.slope) == scaler.slope.shape and np.allclose(
        again.slope, scaler.slope, rtol=1e-12, atol=0.0
    )


#: Of the classes whose attributes are taken as they are.
RULES: dict[type, Rule] = {
    FeatureTable: Rule(
        {"spec": ANY, "names": listed(TEXT), "categories": listed(NONE | _CATEGORIES, "names")}
    ),
    InputEncoder: Rule(
        {
            "scaler": instance(*SCALERS),
            "n_categories": listed(NONE | whole(0)),
            "numbers": Kind("column numbers", lambda v, s: array(RISING, len(v)).holds(v, s)),
            "missing_rate": SHARE | array(SHARES, "n_categories"),
            "nondetection": FLAG,
            "use_errors": FLAG,
            "names": listed(TEXT, "n_categories"),
            "missing": array(FLAGS, "n_categories"),
            "infinite": array(FLAGS, "n_categories"),
            "least_error": given("use_errors", POSITIVE),
            "error_scaler": given("use_errors", instance(StandardScaler)),
            "n_inputs": whole(1),
            "robust": LEFT_OUT | FLAG,
            "reach": LEFT_OUT | NONE | array(POSITIVES, "numbers"),
            "x_range": LEFT_OUT | NONE | array(FINITES, 2, "numbers"),
            "n_rows": LEFT_OUT | whole(0),
            "farthest": LEFT_OUT | POSITIVE,
            "imputer": LEFT_OUT | NONE | instance(Imputer),
            "n_encoded": LEFT_OUT | whole(0),
            "encoding": LEFT_OUT | NONE | instance(PiecewiseLinear),
            "trees": LEFT_OUT | NONE | instance(TreeFeatures),
            "forest": LEFT_OUT | NONE | instance(Forest),
            "neighbours": LEFT_OUT | NONE | instance(Neighbours),
        },
        [
            Relation(
                "numbers",
                "the features without categories",
                lambda e: (
                    [j for j, n in enumerate(e.n_categories) if n is None] == e.numbers.tolist()
                ),
            ),
            Relation(
                "scaler",
                "fitted to the numbers",
                lambda e: not len(e.numbers) or _is_fitted_to(e.scaler, len(e.numbers)),
            ),
            Relation(
                "error_scaler",
                "fitted to the errors of the numbers",
                lambda e: not e.use_errors or _is_fitted_to(e.error_scaler, len(e.numbers)),
            ),
            Relation(
                "infinite",
                "of numbers, with nondetection",
                lambda e: (
                    not (set(np.flatnonzero(e.infinite)) - set(e.numbers))
                    and (bool(e.nondetection) or not e.infinite.any())
                ),
            ),
            Relation(
                "n_encoded",
                "0 without parts",
                lambda e: (e.n_encoded > 0) == (0 in e.n_categories),
            ),
            Relation("n_inputs", "the width of all blocks of columns", _is_consistent_encoder),
            Relation(
                "imputer",
                "of as many numbers as there are",
                lambda e: e.imputer is None or len(e.imputer.mean) == len(e.numbers),
            ),
            Relation(
                "encoding",
                "one of the numbers",
                lambda e: e.encoding is None or (e.encoding.column < len(e.numbers)).all(),
            ),
            Relation(
                "trees",
                "about the other inputs",
                lambda e: e.trees is None or (e.trees.column < e.n_plain).all(),
            ),
            Relation(
                "forest",
                "about the other inputs",
                lambda e: e.forest is None or (e.forest.column < e.n_plain).all(),
            ),
            Relation(
                "neighbours",
                "in the other inputs",
                lambda e: e.neighbours is None or (e.neighbours.column < e.n_plain).all(),
            ),
            Relation(
                "x_range",
                "there, rising, from a fit to some rows, where reach is",
                lambda e: (
                    (e.x_range is None) == (e.reach is None)
                    and (e.x_range is None or bool((e.x_range[0] <= e.x_range[1]).all()))
                    and (e.x_range is None or e.n_rows > 0)
                ),
            ),
        ],
    ),
    Layout: Rule(
        {
            "kind": one_of("array", "dict", "list"),
            "shapes": Kind(
                "a dict of shapes by name",
                lambda v, s: _is_named(v, s) and len(v) > 0 and all(map(_is_shape, v.values())),
            ),
            "plain": Kind(
                "a dict of numbers of columns by name",
                lambda v, s: _is_named(v, s) and all(whole(0).holds(n, s) for n in v.values()),
            ),
            "accepts": Kind(
                "True or False for each of the shapes",
                lambda v, s: (
                    _is_named(v, s)
                    and v.keys() == s["shapes"].keys()
                    and all(FLAG.holds(one, s) for one in v.values())
                ),
            ),
        },
        [
            Relation(
                "shapes",
                "those of other parts than are plain, by names that go with the kind",
                lambda layout: (
                    not (layout.shapes.keys() & layout.plain.keys())
                    and (layout.kind != "array" or layout.names == [WHOLE])
                    and (
                        layout.kind != "list"
                        or set(layout.names) == set(map(str, range(len(layout.names))))
                    )
                ),
            )
        ],
    ),
    Imputer: Rule(
        {"mean": array(FINITES, "mean"), "precision": array(FINITES, "mean", "mean")},
        [Relation("precision", "positive definite", _has_inverse)],
    ),
    StandardScaler: _scaler(
        mean_=given("with_mean", array(FINITES, _N)), scale_=given("with_std", array(POSITIVES, _N))
    ),
    MinMaxScaler: _scaler(clip=FALSE, min_=array(FINITES, _N), scale_=array(POSITIVES, _N)),
    MaxAbsScaler: _scaler(clip=LEFT_OUT | FALSE, scale_=array(POSITIVES, _N)),
    RobustScaler: _scaler(
        center_=given("with_centering", array(FINITES, _N)),
        scale_=given("with_scaling", array(POSITIVES, _N)),
    ),
    PowerTransformer: _scaler(
        method=one_of("yeo-johnson", "box-cox"),
        standardize=FLAG,
        lambdas_=array(FINITES, _N),
    ),
    _ColumnScaler: Rule(
        {
            "affine": instance(*(set(SCALERS) - {PowerTransformer})),
            "power": NONE | instance(PowerTransformer),
            "slope": array(POSITIVES, "slope"),
            "robust": LEFT_OUT | FLAG,
            "bound": LEFT_OUT | NONE | array(POSITIVES, "slope"),
        },
        [
            Relation("affine", "fitted", lambda c: _is_fitted_to(c.affine, len(c.slope))),
            Relation(
                "power",
                "fitted, without standardisation",
                lambda c: (
                    c.power is None
                    or (not c.power.standardize and _is_fitted_to(c.power, len(c.slope)))
                ),
            ),
            Relation("slope", "that of the linear scaler", _has_slope_of_affine),
        ],
    ),
    _SkewScaler: Rule(
        {"unit": array(POSITIVES, "unit"), "inner": instance(_ColumnScaler)},
        [
            Relation(
                "inner",
                "a power of as many columns",
                lambda s: s.inner.power is not None and len(s.inner.slope) == len(s.unit),
            )
        ],
    ),
    OutputScaler: Rule(
        {
            "spec": NONE | one_of(*SHORT_NAMES, *OWN_NAMES) | instance(*SCALERS),
            "scaling": NONE | listed(one_of("free", "affine", "none"), "slope"),
            "parts": listed(
                Kind(
                    "pairs of column numbers and scaler",
                    lambda v, s: (
                        type(v) is tuple
                        and array(RISING, len(v[0])).holds(v[0], s)
                        and isinstance(v[1], (_ColumnScaler, _SkewScaler))
                        and len(v[1].slope) == len(v[0])
                    ),
                )
            ),
            "linear": FLAG,
            "slope": array(POSITIVES, "slope"),
        },
        [
            Relation(
                "parts",
                "scalers of all columns, each once",
                lambda o: (
                    sorted(j for columns, _ in o.parts for j in columns)
                    == list(range(len(o.slope)))
                ),
            ),
            Relation(
                "linear",
                "whether all parts are",
                lambda o: o.linear == all(scaler.linear for _, scaler in o.parts),
            ),
            Relation(
                "slope",
                "that of its parts",
                lambda o: all(
                    np.array_equal(o.slope[columns], scaler.slope) for columns, scaler in o.parts
                ),
            ),
        ],
    ),
    PiecewiseLinear: Rule(
        {
            "column": array(COLUMNS, "column"),
            "low": array(FINITES, "column"),
            "width": array(POSITIVES, "column"),
        }
    ),
    TreeFeatures: Rule(
        {
            "column": Kind(
                "column numbers of some folds, outputs, trees and depths",
                lambda v, s: (
                    v.ndim == 4
                    and v.size > 0
                    and v.shape[3] <= 16
                    and array(COLUMNS, *v.shape).holds(v, s)
                ),
            ),
            "threshold": Kind(
                "finite numbers in the shape of column",
                lambda v, s: array(FINITES, *s["column"].shape).holds(v, s),
            ),
            "value": Kind(
                "finite numbers for each leaf",
                lambda v, s: array(
                    FINITES, *s["column"].shape[:3], 2 ** s["column"].shape[3]
                ).holds(v, s),
            ),
        }
    ),
    Forest: Rule(
        {
            "root": Kind(
                "first nodes of some folds and trees",
                lambda v, s: (
                    v.ndim == 2
                    and v.size > 0
                    and array(COLUMNS, *v.shape).holds(v, s)
                    and bool((v < len(s["column"])).all())
                ),
            ),
            "column": Kind(
                "column numbers, or -1 for leaves, of which the last node is one",
                lambda v, s: (
                    v.ndim == 1
                    and len(v) > 0
                    and array(COLUMNS, len(v)).holds(v + 1, s)
                    and v[-1] == -1
                ),
            ),
            "threshold": array(FINITES, "column"),
            "after": Kind(
                "nodes behind each node, or the numbers of leaves",
                lambda v, s: (
                    array(COLUMNS, "column").holds(v, s)
                    and bool(
                        np.where(
                            s["column"] < 0,
                            v < len(s["value"]),
                            (v > np.arange(len(v))) & (v < len(v)),
                        ).all()
                    )
                ),
            ),
            "value": Kind(
                "finite outputs of leaves",
                lambda v, s: v.ndim == 2 and v.size > 0 and array(FINITES, *v.shape).holds(v, s),
            ),
        }
    ),
    Neighbours: Rule(
        {
            "column": array(COLUMNS, "column"),
            "scale": array(POSITIVES, "column"),
            "known": Kind(
                f"at least {LEAST_KNOWN} rows of finite numbers, one for each of column",
                lambda v, s: (
                    v.ndim == 2
                    and len(v) >= LEAST_KNOWN
                    and array(FINITES, len(v), len(s["column"])).holds(v, s)
                ),
            ),
            "value": Kind(
                "finite outputs of each row of known",
                lambda v, s: (
                    v.ndim == 2
                    and v.shape[1] > 0
                    and array(FINITES, len(s["known"]), v.shape[1]).holds(v, s)
                ),
            ),
        }
    ),
    Novelty: Rule(
        {
            "neighbours": Kind(
                "finite numbers in rows",
                lambda v, s: v.ndim == 2 and array(FINITES, *v.shape).holds(v, s) and v.size > 0,
            ),
            "distances": array(FINITES, "distances"),
        },
    ),
    TargetCodec: Rule(
        {
            "names": listed(TEXT),
            "is_label": listed(FLAG, "names"),
            "whole": listed(FLAG, "names"),
            "classes": listed(NONE | _LABELS, "names"),
            "units": LEFT_OUT | TEXTS,
        },
        [
            Relation(
                "classes",
                "there for columns of labels and no others",
                lambda c: [one is not None for one in c.classes] == c.is_label,
            )
        ],
    ),
}


# Families: their attributes are the arguments of their constructors

_PARAMETERS = {
    "K": NONE | whole(1),
    "min_scale": NONE | POSITIVE,
    "n_classes": NONE | whole(1),
    "spacing": POSITIVE,
    "offset": FINITE,
    "atoms": whole(1),
    "bins": whole(1),
    "interpolate": FLAG,
    "base": instance(Likelihood),
    "at": one_of("low", "high") | FINITE,
}


def _family_rule(cls: type) -> Rule:
    return Rule(
        {
            name: _PARAMETERS[name] if p.default is p.empty else LEFT_OUT | _PARAMETERS[name]
            for name, p in inspect.signature(cls).parameters.items()
        }
    )


_FAMILIES: dict[type, Rule] = {cls: _family_rule(cls) for cls in (*LIKELIHOODS.values(), Inflated)}

# All classes

#: The classes of which a file may hold instances; their own attributes are the whole of each.
CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        SAN,
        LinearBase,
        Block,
        Linear,
        LayerNorm,
        nn.Identity,
        nn.ModuleList,
        *ACTIVATIONS.values(),
        *RULES,
        *_FAMILIES,
    )
}


def rebuild(name: str, state: State, path: str) -> Any:
    """Instance of the class `name`; a `Record` for a module inside a network.

    Parameters
    ----------
    name : str
    state : dict
        Its attributes, which are rebuilt themselves.
    path : str
        Where it stands, for errors.

    Raises
    ------
    UnfitState
        If the package could not have made an instance with this state.
    """
    if name not in CLASSES:
        raise UnfitState(f"{path or 'it'} names the class {name!r}, which is not part of any model")
    cls: Any = CLASSES[name]
    if cls is SAN:
        return rebuild_network(state, path)
    if issubclass(cls, nn.Module):
        return Record(name, state)
    if issubclass(cls, Likelihood):
        _FAMILIES[cls].check(state, path)
        family = cls(**state)
        family.check(path)
        return family
    rule = RULES[cls]
    rule.check(state, path)
    if rule.is_open:
        check_no_member(cls, state, path)
    # Parameters that an older scikit-learn did not know have their defaults
    rebuilt = cls() if rule.is_open else cls.__new__(cls)
    vars(rebuilt).update((k, v) for k, v in state.items() if rule.is_open or k in rule.kinds)
    rule.check_relations(rebuilt, path)
    return rebuilt


def check_no_member(cls: type, state: State, path: str) -> None:
    """Raise for an attribute that would hide a method or the like of its class."""
    for name, value in state.items():
        if type(name) is not str or hasattr(cls, name):
            raise unfit(joined(path, name), f"left out, being a member of {cls.__name__}", value)
