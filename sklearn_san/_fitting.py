"""From rows to a trained network: split, scalers, starting point, training.

===================  =======================================================================
`fit_ensemble`       all of it, by one recipe for tables and streams
`Fitted`             what comes out
`choose`             scaling of y and features of x that are worth their place, by short fits
`order_trials`       short fits in other orders of the outputs
`Silence`            watches a fit of which nothing is told
===================  =======================================================================

`options` is an estimator with its constructor parameters; y is in autoregressive order.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from joblib import effective_n_jobs

from . import _validation as validation
from ._boosting import FEW_ROWS as FEW_FOR_TREES
from ._boosting import FOREST_BELOW, fit_forest, fit_trees, n_folds
from ._engines import engine_report, load_kernels, objective_for
from ._features import PiecewiseLinear, fit_neighbours
from ._inputs import InputEncoder, folds
from ._linear_base import FEW_ROWS, fit_linear_base, match_marginals, optimism_of
from ._network import SAN, FreeRunning
from ._novelty import MAX_ROWS, Novelty
from ._order import Trial
from ._part_encoders import (
    CHUNK,
    Encoded,
    PartEncoders,
    gather,
    make_encoders,
    padded,
    spread,
    with_features,
)
from ._parts import Layout
from ._rows import OBSERVED_REPEATS, Epochs, Pools, WholeTable
from ._scaling import OutputScaler, is_skewed
from ._schema import Block, Reader, Schema
from ._splitting import Split
from ._training import (
    Checkpoint,
    History,
    Recipe,
    auto_batch_size,
    auto_epochs,
    auto_members,
    train,
    train_in_processes,
    turns,
)
from ._widening import MOST_ROWS, widen
from .compiled.jit import unavailable
from .likelihoods.base import DEFAULT_MIN_SCALE

#: Learning rate of `partial_fit` as a share of the largest one of `fit`.
INCREMENT_RATE = 0.1
#: Training must improve on the starting point by so many nats per output, divided by the rows, to
#: be believed where there are few of these; of fewer than so many rows the start is kept.
HANDICAP, FEWEST_ROWS = 5.0, 20
#: Rows to validate on are among those that the linear base is fitted to; its optimism times this
#: is no improvement.
OPTIMISM = 2.0
#: Mean log density in its units in the network, nats, from which on an output is a needle: that of
#: a normal distribution of ten times the smallest scale. Of so many rows.
NEEDLE, NEEDLE_ROWS = -float(np.log(10.0 * DEFAULT_MIN_SCALE)) - 1.42, 200
#: "auto" tries features of x where there are between so many rows: in ensembles of so many members,
#: fitted to so many rows divided by the outputs, but no fewer than these, with a share of the rows
#: to validate on, for a share of the epochs, a larger one where trees are those of many rows. They
#: must be better by so many nats per output, since short fits favour what is learned quickly, and
#: so many divided by the root of all rows validated on.
LEAST_TRIED, MOST_TRIED = 200, 50_000
PILOT_MEMBERS, PILOT_ROWS, FEWEST_PILOT, PILOT_HELD = 1, 20_000, 2000, 0.25
PILOT_EPOCHS, LONG_PILOT_EPOCHS = 0.25, 0.5
LEAST_GAIN, MARGIN = 0.05, 0.5
#: Orders of the outputs are tried on so many rows, of which a share is held out, with so many rows
#: in a batch and so many of all epochs together. There are so many trials, if they take no more
#: than a share of the fit. Losses of outputs are told up to so many nats.
TRIAL_ROWS, TRIAL_HELD, TRIAL_BATCH, TRIAL_PASSES = 20_000, 0.2, 128, 48_000
MOST_TRIALS, TRIAL_SHARE, MOST_LOSS = 7, 0.33, 100.0
#: Layers of an encoder of x that are as wide as those of a block, before its features.
ENCODER_LAYERS = 2
#: Smallest scale of an output's components, in its units in the network, times the rows.
FEW_FLOOR = 0.5


@dataclass(frozen=True)
class Fitted:
    """A trained network and what stands around it.

    Parameters
    ----------
    network : SAN
    encoder : InputEncoder
    y_scaler : OutputScaler
    n_members, epochs, batch_size : int
        Resolved parameters.
    history : History
    novelty : Novelty or None
        None in models of old.
    encoders : PartEncoders or None
        Of parts of X, if there are any.
    n_drawn : int
        Rows that were drawn from a model of the table to learn from.
    """

    network: SAN
    encoder: InputEncoder
    y_scaler: OutputScaler
    n_members: int
    epochs: int
    batch_size: int
    history: History
    novelty: Novelty | None
    encoders: PartEncoders | None = None
    n_drawn: int = 0

    def attributes(self) -> dict[str, Any]:
        """The same as attributes of an estimator."""
        history = self.history
        return {
            "network_": self.network,
            "input_encoder_": self.encoder,
            "y_scaler_": self.y_scaler,
            "novelty_": self.novelty,
            "encoders_": self.encoders,
            "n_members_": self.n_members,
            "epochs_": self.epochs,
            "batch_size_": self.batch_size,
            "n_iter_": len(history.train),
            "best_epoch_": history.best_epoch,
            "loss_curve_": history.train,
            "validation_curve_": history.validation,
            "n_synthetic_rows_": self.n_drawn,
        }


#: Watches a fit: called with the largest number of epochs and a function that gives what is
#: fitted so far; returns an object with `end_epoch`, `tell` and `close`.
Watch = Callable[[int, Callable[[], Fitted]], Any]


def fit_ensemble(
    options: Any,
    reader: Reader,
    rows: WholeTable | Pools,
    device: torch.device,
    generator: torch.Generator,
    watch: Watch,
    *,
    before: Fitted | None = None,
    checkpoint: Checkpoint | None = None,
    increment: bool = False,
) -> Fitted:
    """Fit an ensemble to rows.

    Parameters
    ----------
    options : estimator
    reader : Reader
        That has read the rows.
    rows : WholeTable or Pools
    device : torch.device
    generator : torch.Generator
    watch : callable
    before : Fitted, default=None
        What to go on from, which is not changed.
    checkpoint : Checkpoint, default=None
    increment : bool, default=False
        Whether to make one pass at a constant rate.
    """
    n_members = before.n_members if before is not None else _n_members(options, rows.n_rows)
    n_validation = 0 if increment else _n_validation(options, rows, n_members)
    sample = rows.sample
    if sample.parts and _shares(options, before):
        split = Split(*(
            np.tile(own, (n_members, 1)) for own in rows.split(n_validation, 1, generator)
        ))  # fmt: skip
    else:
        split = rows.split(n_validation, n_members, generator)
    used = np.unique(split.training)
    used = used[: len(used) - rows.n_drawn]  # without those drawn, which come last
    ranks = rows.ranks
    dtype = validation.DTYPES[options.dtype]
    parts = None
    if sample.parts and (layout := reader.schema.layout) is not None:
        parts = _encoders_of_parts(
            options, reader.schema, layout, sample.take(used), n_members, before, generator
        )
        rows.sample = sample = _with_states(reader.schema, sample)
    chosen = None
    if before is None:
        chosen = choose(options, reader, rows, device, increment=increment)
        part = sample.take(used)
        encoder, y_scaler = _fit_scalers(
            options, reader, part, chosen.y_scaler, increment=increment
        )
        hides = _hides(options, sample.X)
        _extend(
            encoder, y_scaler, part, _numbers(reader.schema), chosen.encode, chosen.grow,
            hides=hides, n_encoded=0 if parts is None else parts.n_features,
        )  # fmt: skip
    else:
        encoder, y_scaler = before.encoder, before.y_scaler
    encoder, y_scaler = ranks.first("the scalers", (encoder, y_scaler))
    if parts is not None:
        parts.masks = encoder.part_masks
        ranks.follow(*parts.tensors())
    x = encoder.transform(sample.X, sample.X_err, out_of_fold=True)
    z = y_scaler.transform(sample.y)
    novelty = None if before is None else before.novelty
    if before is None:
        if increment:
            encoder.forget_constants()
        weight = None if sample.weight is None else sample.weight[used]
        network, optimism = _untrained(options, reader.schema, x[used], z[used], weight, y_scaler,
                                       n_members, generator, parts)  # fmt: skip
    else:
        network, optimism = copy.deepcopy(before.network), 0.0
        if parts is not None and not parts.shared:
            network = gather(network, parts.width)
        validation.warn_of_range(encoder, sample.X)
    seed = generator.initial_seed() % 2**32
    if before is None and parts is None:
        novelty = Novelty().fit(
            x[used, : encoder.n_plain], np.random.default_rng((seed, len(used)))
        )
    start = network, optimism, novelty
    network, optimism, novelty = ranks.first("the network to start from", start)
    if increment and before is not None:  # other noise in each call
        seed = (seed + len(before.history.train)) % 2**32
    patterns = _patterns(sample.X) if options.missing_rate == "auto" and not increment else None
    epochs = Epochs(
        rows, split, encoder, y_scaler, x, z, seed, dtype, device, patterns,
        once=parts is not None and parts.shared,
    )  # fmt: skip
    jacobian = _log_jacobian(network, y_scaler, x, z, sample.y)
    training, holdout = epochs.training_rows(jacobian, split)
    recipe, n_epochs = _recipe(
        options, len(training), holdout is not None, rows.n_pools, n_drawn=rows.n_drawn,
        increment=increment,
    )  # fmt: skip
    epochs.n_epochs = recipe.epochs
    if holdout is not None and _is_cross_validated(options, rows):
        n_rows, n_outputs = rows.n_rows, z.shape[1]
        handicap = HANDICAP * n_outputs / n_rows + OPTIMISM * optimism
        if n_rows < FEWEST_ROWS:
            handicap = np.inf
        recipe = replace(recipe, joint_epoch=True, handicap=handicap)
    if parts is not None:
        recipe = _recipe_of_parts(recipe, sample, shared=parts.shared)

    def so_far(history: History) -> Fitted:
        trained = network
        if parts is not None and not parts.shared:
            trained = spread(network, parts.width)
        return Fitted(
            trained, encoder, y_scaler, n_members, n_epochs, recipe.batch_size, history, novelty,
            parts, rows.n_drawn,
        )  # fmt: skip

    def seen(some: np.ndarray) -> np.ndarray:
        """What the trained network sees of some rows of the sample."""
        if parts is None:
            return x[some]
        chosen = sample.take(some)
        states = chosen.X[:, -len(chosen.parts) :]
        features = parts.features(chosen.parts, states, torch.device("cpu"))
        return np.concatenate([x[some], features], axis=1)

    monitor = watch(recipe.epochs, lambda: so_far(History()))
    try:
        network.to(device, dtype)
        monitor.tell(_plan(network, parts, training, holdout, recipe, device))
        if chosen is not None:
            monitor.tell(_in_use(options, chosen))
        if rows.n_drawn:
            monitor.tell(
                f"{rows.n_drawn} of these are drawn from a model of the table, the others stand "
                f"{OBSERVED_REPEATS} times"
            )
        if parts is None:
            load_kernels(network, monitor.tell, for_training=True)
        else:
            parts.to(device, dtype)
        history = _train(
            options, network, parts, training, holdout, recipe, generator, monitor,
            epochs.columns if epochs.change else None, checkpoint, increment=increment,
        )  # fmt: skip
    finally:
        monitor.close()
    if holdout is not None and options.teacher_forcing and history.best_epoch:
        widen(network, holdout if parts is None else with_features(parts, holdout, MOST_ROWS))
    if parts is not None:
        random = np.random.default_rng((seed, len(used)))
        some = random.permutation(used)[: 2 * MAX_ROWS]
        plain, features = np.split(seen(some), [x.shape[1]], axis=1)
        some_x = np.concatenate([plain[:, : encoder.n_plain], features], axis=1)
        novelty = Novelty().fit(some_x, random)
    if not history.interrupted:  # else the other ranks are still training
        ranks.follow(*network.parameters(), *(() if parts is None else parts.tensors()))
        novelty = ranks.first("the distances of rows", novelty)
    fitted = so_far(history)
    load_kernels(fitted.network)
    if not increment:
        complete = used[~np.isnan(z[used]).any(axis=1)][:NEEDLE_ROWS]
        _warn_of_needles(fitted.network, reader.schema, seen(complete), z[complete])
    return fitted


def _shares(options: Any, before: Fitted | None) -> bool:
    """Whether all members are to have the same encoders."""
    if before is not None and before.encoders is not None:
        return before.encoders.shared
    return bool(options.share_encoder)


def _encoders_of_parts(
    options: Any,
    schema: Schema,
    layout: Layout,
    part: Block,
    n_members: int,
    before: Fitted | None,
    generator: torch.Generator,
) -> PartEncoders | None:
    """Encoders of the parts of X: new ones for rows to learn from, or copies of those there are."""
    if options.share_encoder and effective_n_jobs(options.n_jobs) > 1:
        raise ValueError(
            "share_encoder=True trains all members together, which processes cannot, got "
            f"n_jobs={options.n_jobs}; set n_jobs=None."
        )
    if not schema.feature_names:
        for name, off in (("feature_encoding", None), ("tree_features", False)):
            if (value := getattr(options, name)) not in ("auto", off):
                raise ValueError(
                    f"{name}={value!r} needs plain columns, but all of X goes through encoders; "
                    f"use 'auto' or {off}."
                )
    if before is not None:
        return copy.deepcopy(before.encoders)
    dtype, shared = validation.DTYPES[options.dtype], _shares(options, None)
    encoders = make_encoders(
        options.encoder, layout, part.parts, n_members, generator, dtype, shared=shared
    )
    schema.layout = replace(layout, accepts=encoders.accepts)
    return encoders


def _with_states(schema: Schema, sample: Block) -> Block:
    """Rows with the states of their parts as they are for encoders that are known."""
    if schema.layout is None:
        return sample
    states = schema.layout.states(sample.parts)
    return sample._replace(X=np.concatenate([sample.X[:, : -len(sample.parts)], states], axis=1))


def _recipe_of_parts(recipe: Recipe, sample: Block, *, shared: bool) -> Recipe:
    """Recipe with which few enough rows are in memory; shared encoders are of one epoch."""
    largest = max(math.prod(part.shape) for part in sample.parts)
    evaluated = max(recipe.batch_size, min(recipe.evaluated, CHUNK // largest))
    return replace(recipe, evaluated=evaluated, joint_epoch=recipe.joint_epoch or shared)


def _plan(
    network: SAN,
    parts: PartEncoders | None,
    training: Any,
    holdout: Any,
    recipe: Any,
    device: torch.device,
) -> str:
    """What is about to be trained, in one line."""
    held = "none" if holdout is None else f"{len(holdout)}"
    engine = engine_report(network, device) if parts is None else "torch, with encoders"
    return (
        f"{len(training)} rows to learn from, {held} to validate on; {network.n_outputs} outputs; "
        f"{network.n_members} members; {recipe.epochs} epochs in batches of {recipe.batch_size}; "
        f"engine {engine}"
    )


def _in_use(options: Any, chosen: Chosen) -> str:
    """Which features of x are in use, and whether that was chosen; powers of y if they were."""
    names = ("a piecewise-linear encoding", "predictions of trees")
    is_used = (chosen.encode, chosen.grow)
    used = " and ".join(name for name, own in zip(names, is_used, strict=True) if own)
    is_open = "auto" in (options.feature_encoding, options.tree_features)
    told = f"features: {used or 'as they are'}{', by auto' if is_open else ''}"
    if _is_auto(options.y_scaler) and chosen.y_scaler == "skew":
        told += "; powers of y, by auto"
    return told


def _warn_of_needles(network: SAN, schema: Schema, x: np.ndarray, z: np.ndarray) -> None:
    """Warn if the density of an output has become about as narrow as its floor allows."""
    free = np.array([family.scaling == "free" for family in network.families])
    dtype = next(network.parameters()).dtype
    with torch.no_grad():
        parts = (torch.as_tensor(part[None], dtype=dtype) for part in (x, z))
        log_density = network.conditionals(*parts)[0].double().mean((0, 1)).numpy()
    log_density = log_density + np.log(network.base.scale.numpy())
    if len(z) and (free & (log_density > NEEDLE)).any():
        d = int(np.argmax(np.where(free, log_density, -np.inf)))
        validation.warn_of_needles(schema.names[schema.order[d]], stacklevel=7)


@dataclass(frozen=True)
class Chosen:
    """What `choose` chooses.

    Parameters
    ----------
    encode, grow : bool
        Whether to encode the numbers, and whether to add predictions of trees.
    y_scaler : str, scaler or None
    """

    encode: bool
    grow: bool
    y_scaler: Any


def choose(
    options: Any,
    reader: Reader,
    rows: WholeTable | Pools,
    device: torch.device,
    *,
    increment: bool,
) -> Chosen:
    """Features of x and scaling of y.

    What is "auto" is tried, one at a time: small networks are fitted for a few epochs to some of
    the rows, and the best on others of them wins, if it is clearly better than none. That is so for
    tables of `LEAST_TRIED` to `MOST_TRIED` rows that are the same in every epoch and have no
    groups, and powers are tried where an output is as skewed as a logarithm makes even. Features
    of x are for tables alone of which no more rows are drawn. The choice depends on the table and
    the parameters alone, not on a seed.
    """
    encode, grow, scaler = options.feature_encoding, options.tree_features, options.y_scaler
    is_open = _is_auto(scaler)
    start = Chosen(encode == "piecewise_linear", grow is True, "standard" if is_open else scaler)
    n_drawn, rows = rows.n_drawn, rows.observed
    if increment or not _can_try(options, rows):
        return start
    powers = is_open and _may_be_powers(reader.schema, rows.sample.y)
    others = []
    if reader.schema.feature_names and not n_drawn:
        if encode == "auto":
            others.append({"encode": True})
        if grow == "auto" and _numbers(reader.schema):
            others.append({"grow": True})
    if not powers and not others:
        return start
    part = _pilot_rows(rows)
    least = _pilot(options, reader, part, device, start)
    if powers:
        other = replace(start, y_scaler="skew")
        if (loss := _pilot(options, reader, part, device, other)) < least:
            start, least = other, loss
    candidates = [start, *(replace(start, **other) for other in others)]
    losses = [least, *(_pilot(options, reader, part, device, one) for one in candidates[1:])]
    losses[0] -= LEAST_GAIN * part.sample.y.shape[1] + MARGIN / np.sqrt(part.n_held)
    return candidates[int(np.argmin(losses))]


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _may_be_powers(schema: Schema, y: np.ndarray) -> bool:
    """Whether some output that is open above is skewed."""
    free = np.array([family.scaling == "free" for family in schema.families])
    free &= np.isposinf(schema.limits[schema.order, 1])
    return bool(is_skewed(y[:, free]).any())


def _can_try(options: Any, rows: WholeTable | Pools) -> bool:
    """Whether pilots tell which features help, in little time."""
    sample = rows.sample
    same = sample.X_err is None and not _hides(options, sample.X) and rows.groups is None
    sized = LEAST_TRIED <= rows.n_rows <= MOST_TRIED
    return bool(same and sized and options.teacher_forcing and unavailable() is None)


def _pilot_rows(rows: WholeTable | Pools) -> WholeTable:
    """Some of the rows, behind them those that pilots validate on, from which they learn nothing.

    Members of an ensemble validate on different rows, so that all are rows that the linear base
    is fitted to, which the widest of them would then win.
    """
    sample, n_all = rows.sample, rows.sample.n_rows - rows.n_held
    n = min(n_all, max(FEWEST_PILOT, PILOT_ROWS // sample.y.shape[1]))
    some = np.sort(np.random.default_rng(0).permutation(n_all)[:n])
    part = sample.take(some)
    generator = torch.Generator().manual_seed(0)
    split = WholeTable(part).split(round(PILOT_HELD * n), 1, generator)
    training, held = split.training[0], split.holdout[0]
    chosen = part.take(np.concatenate([training, held]))
    return WholeTable(chosen._replace(parts=()), None, len(held))


def _numbers(schema: Schema) -> list[int]:
    """Outputs that are numbers and no labels, in autoregressive order."""
    return [d for d, family in enumerate(schema.families) if family.scaling != "none"]


def _pilot(
    options: Any, reader: Reader, rows: WholeTable, device: torch.device, chosen: Chosen
) -> float:
    """Validation loss of a short fit with such features and scaling."""
    _, epochs, _ = _sizes(options, rows.n_rows)
    few = rows.sample.n_rows - rows.n_held < FEW_FOR_TREES
    share = PILOT_EPOCHS if few else LONG_PILOT_EPOCHS
    pilot = _short(options, chosen, max(1, int(share * epochs)), early_stopping=True)
    fitted = _quietly(pilot, reader, rows, device)
    losses = [loss for loss in fitted.history.validation if np.isfinite(loss)]
    return min(losses, default=np.inf)


def order_trials(
    options: Any, reader: Reader, sample: Block, *, increment: bool
) -> tuple[int, Trial]:
    """How many orders of the outputs to try, and short fits in these.

    Rows, their split and the seed are the same in all of them, whatever those of the fit. Training
    costs a share of the fit at most, and there are none without columns of X.
    """
    rows_of_fit = reader.n_rows
    passes = 1 if increment else _sizes(options, rows_of_fit)[1] * _n_members(options, rows_of_fit)
    n_trials = min(MOST_TRIALS, int(TRIAL_SHARE * rows_of_fit * passes / TRIAL_PASSES))
    sample = sample._replace(parts=())
    some = np.random.default_rng(0).permutation(sample.n_rows)[:TRIAL_ROWS]
    held, training = map(sample.take, np.split(some, [round(TRIAL_HELD * len(some))]))
    if training.weight is not None:
        training = training._replace(weight=training.weight / training.weight.mean())
    scaler = "standard" if _is_auto(options.y_scaler) else options.y_scaler
    pilot = _short(
        options, Chosen(False, False, scaler), max(1, round(TRIAL_PASSES / training.n_rows)),
        batch_size=TRIAL_BATCH, early_stopping=False, teacher_forcing=True,
    )  # fmt: skip

    def losses(order: np.ndarray) -> np.ndarray:
        rows = WholeTable(training._replace(y=training.y[:, order]))
        fitted = _quietly(pilot, reader.in_order(order), rows, torch.device("cpu"))
        x = fitted.encoder.transform(held.X, held.X_err)
        z = fitted.y_scaler.transform(held.y[:, order])
        known = np.nan_to_num(z)  # outputs before missing ones must not see nan
        columns = (torch.as_tensor(part[None], dtype=torch.float32) for part in (x, known))
        with torch.no_grad():
            log_prob = fitted.network.float().conditionals(*columns)[0][0].double().numpy()
        loss = np.where(np.isnan(z), 0.0, np.nan_to_num(-log_prob, nan=np.inf))
        mean = np.average(loss, axis=0, weights=held.weight)
        return np.asarray(np.minimum(mean, MOST_LOSS)[np.argsort(order)])

    return n_trials if reader.schema.feature_names else 0, losses


def _short(options: Any, chosen: Chosen, epochs: int, **parameters: Any) -> Any:
    """Options of a short fit with what is chosen."""
    short = copy.copy(options)
    vars(short).update(
        encoder=None,
        encoder_shape=None if _is_auto(options.encoder_shape) else options.encoder_shape,
        feature_encoding="piecewise_linear" if chosen.encode else None,
        tree_features=chosen.grow,
        y_scaler=chosen.y_scaler,
        n_members=PILOT_MEMBERS,
        n_jobs=None,
        epochs=epochs,
        **parameters,
    )
    return short


def _quietly(options: Any, reader: Reader, rows: WholeTable, device: torch.device) -> Fitted:
    """A fit of which nothing is told, always with the same seed."""
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = fit_ensemble(options, reader, rows, device, generator, lambda *_: Silence())
    if fitted.history.interrupted:
        raise KeyboardInterrupt
    return fitted


class Silence:
    """Watches a fit and tells nothing: that of a pilot, or of ranks other than the first."""

    def end_epoch(self, epoch: int, history: History) -> bool:
        return False

    def tell(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


def _extend(
    encoder: InputEncoder,
    y_scaler: OutputScaler,
    part: Block,
    outputs: list[int],
    encode: bool,
    grow: bool,
    *,
    hides: bool,
    n_encoded: int = 0,
) -> None:
    """Fit features of x on the rows to learn from; trees predict these outputs."""
    encoding = trees = forest = neighbours = None
    plain = encoder.plain(part.X, part.X_err)
    if encode:
        encoding = PiecewiseLinear().fit(plain[:, : len(encoder.numbers)])
    if grow and outputs:
        if part.X_err is not None or hides:
            raise ValueError(
                "tree_features=True needs rows that are the same in every epoch, without X_err and "
                "with missing_rate=0, or without missing values; use tree_features='auto' or False."
            )
        k = n_folds(len(plain))
        z = y_scaler.transform(part.y)[:, outputs]
        fold = folds(part.X, k)
        trees = fit_trees(plain, z, part.weight, fold, k)
        if len(plain) < FOREST_BELOW:
            forest = fit_forest(plain, z, part.weight, folds(part.X, k, 1), k)
        if len(plain) >= FEW_FOR_TREES:
            neighbours = fit_neighbours(plain, z, part.weight, trees)
    encoder.extend(encoding, trees, forest, neighbours, n_encoded)


def _train(
    options: Any,
    network: SAN,
    parts: PartEncoders | None,
    training: Any,
    holdout: Any,
    recipe: Recipe,
    generator: torch.Generator,
    monitor: Any,
    refresh: Any,
    checkpoint: Checkpoint | None,
    *,
    increment: bool,
) -> History:
    """Train `network`, and encoders of parts, in place, and bring them back to the CPU."""
    rank = training.ranks.rank  # the rows of another rank have other noise
    seeds, other_seeds = _seeds(network.n_members, generator)
    objective: SAN | FreeRunning | Encoded = network
    if not options.teacher_forcing:
        own_seeds = [seed + rank for seed in other_seeds]
        objective = FreeRunning(network, options.train_rsample, own_seeds)
    if parts is not None:
        own_seeds = [seed + rank for seed in _seeds(network.n_members, generator)[0]]
        objective = Encoded(objective, parts, own_seeds)
        if parts.shared:  # the same batches, so that each row is encoded once
            seeds = [seeds[0]] * len(seeds)
    n_jobs = (
        1
        if increment or recipe.joint_epoch
        else min(effective_n_jobs(options.n_jobs), network.n_members)
    )
    objective.requires_grad_(True)
    try:
        if n_jobs == 1:
            return train(
                objective, training, holdout, recipe, seeds, monitor.end_epoch, refresh,
                checkpoint, objective_for,
            )  # fmt: skip
        history = train_in_processes(
            objective, training, holdout, recipe, seeds, n_jobs, refresh, objective_for
        )
        monitor.end_epoch(len(history.train), history)
        return history
    finally:
        objective.zero_grad(set_to_none=True)
        objective.to("cpu").requires_grad_(False).eval()


def _n_members(options: Any, n_rows: int) -> int:
    """Members of the ensemble."""
    return auto_members(n_rows) if options.n_members == "auto" else int(options.n_members)


def _is_cross_validated(options: Any, rows: WholeTable | Pools) -> bool:
    """Whether there are so few rows that members validate on all of them together."""
    return options.early_stopping == "auto" and not rows.n_held and rows.n_rows < FEW_ROWS


def _n_validation(options: Any, rows: WholeTable | Pools, n_members: int) -> int:
    """Rows that are held out for validation."""
    if rows.n_held:
        if options.early_stopping is False:
            raise ValueError(
                "X_val and y_val are there for early stopping, but early_stopping=False; leave "
                "either out."
            )
        return rows.n_held
    n_rows = rows.sample.n_rows - rows.n_drawn
    if _is_cross_validated(options, rows):
        return max(1, min(-(-n_rows // n_members), n_rows // 4))
    if not options.early_stopping:
        return 0
    n = max(1, round(options.validation_fraction * n_rows))
    if n_rows - n < 2:
        raise ValueError(
            f"validation_fraction={options.validation_fraction} of {n_rows} rows leaves fewer than "
            "2 to train on; lower it or set early_stopping=False."
        )
    return int(min(n, rows.max_validation))


def _fit_scalers(
    options: Any, reader: Reader, part: Block, y_spec: Any, *, increment: bool
) -> tuple[InputEncoder, OutputScaler]:
    """Fit the scalers on the training part; of an increment, what comes later may be infinite."""
    schema = reader.schema
    infinite = np.ones_like(reader.infinite) if increment else reader.infinite
    encoder = InputEncoder(
        options.x_scaler,
        schema.n_categories,
        missing_rate=validation.missing_rates(options.missing_rate, schema.column_names),
        nondetection=options.nondetection is not None,
        use_errors=options.use_errors,
        names=schema.column_names,
    ).fit(part.X, part.weight, part.X_err, missing=reader.missing, infinite=infinite,
          extremes=reader.x_range)  # fmt: skip
    y_scaler = OutputScaler(y_spec, [one.scaling for one in schema.families])
    return encoder, y_scaler.fit(part.y, part.weight)


def _hides(options: Any, X: np.ndarray) -> bool:
    """Whether training hides values of X, others in each epoch."""
    rate = options.missing_rate
    if isinstance(rate, Mapping):
        return any(share > 0 for share in rate.values())
    return bool(np.isnan(X).any()) if rate == "auto" else rate > 0


def _patterns(X: np.ndarray) -> np.ndarray | None:
    """Values that rows lack, (n_samples, n_features); None if no row lacks any."""
    missing = np.isnan(X)
    return missing if missing.any() else None


def _untrained(
    options: Any,
    schema: Schema,
    x: np.ndarray,
    z: np.ndarray,
    weight: np.ndarray | None,
    y_scaler: OutputScaler,
    n_members: int,
    generator: torch.Generator,
    parts: PartEncoders | None,
) -> tuple[SAN, float]:
    """Network that starts from the linear base and the marginal densities, and its optimism.

    Rows to learn from are given as the network sees them, without features of parts; without any
    other inputs the base sees a constant.
    """
    n_columns, width = x.shape[1], 0 if parts is None else parts.width
    if not n_columns:
        x = np.zeros((len(x), 1))
    scaled_limits = y_scaler.transform_limits(schema.limits[schema.order])
    families = validation.check_range(
        schema.families, scaled_limits, options.likelihood, options.likelihood_params
    )
    base, residual = fit_linear_base(x, z, weight, options.linear_base, families)
    middle = y_scaler.inverse_transform(np.nanmedian(z, axis=0, keepdims=True))
    units, origins = y_scaler.unit(middle) * base.scale.numpy(), y_scaler.origin()
    resolved = [
        family.resolve(
            K=options.K,
            unit=units[d],
            origin=origins[d],
            n_classes=None if labels is None else len(labels),
        )
        for d, (family, labels) in enumerate(zip(families, schema.classes, strict=True))
    ]
    if len(z) < FEW_ROWS:
        resolved = [_with_floor(family, FEW_FLOOR / len(z)) for family in resolved]
    initial = match_marginals(resolved, scaled_limits, base, z, residual, weight)
    optimism = optimism_of(base, x, z, residual)
    network = SAN(
        n_columns + width,
        resolved,
        initial,
        scaled_limits,
        base if parts is None else padded(base, n_columns, width),
        n_members=n_members,
        first_module_shape=options.first_module_shape or options.module_shape,
        module_shape=options.module_shape,
        encoder_shape=_encoder_shape(options),
        sequence_features=options.sequence_features,
        activation=options.activation,
        layer_norm=options.layer_norm,
        generator=generator,
    )
    return network, optimism


def _with_floor(family: Any, floor: float) -> Any:
    """Family whose scales, if the user set no floor, stay above `floor`."""
    if getattr(family, "min_scale", None) == DEFAULT_MIN_SCALE:
        family.set_params(min_scale=floor)
    return family


def _log_jacobian(
    network: SAN, y_scaler: OutputScaler, x: np.ndarray, z: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Log-Jacobian of each row, which brings its loss back to the units of y; (n_rows,).

    Features of parts, which x is without, have no part in it.
    """
    exact = copy.deepcopy(network).double()
    x = np.pad(x, ((0, 0), (0, network.n_features - x.shape[1])))
    mass = exact.is_mass(torch.from_numpy(x), torch.from_numpy(z)).numpy()
    return np.where(mass | np.isnan(y), 0.0, y_scaler.log_jacobian(y)).sum(axis=1)


def _recipe(
    options: Any, n_rows: int, validates: bool, n_pools: int, *, n_drawn: int, increment: bool
) -> tuple[Recipe, int]:
    """Recipe for `n_rows` rows, read in so many pools per epoch, and the number of epochs."""
    batch_size, epochs, turned = _sizes(options, n_rows, n_drawn)
    patience = options.n_iter_no_change
    if increment:
        rate = INCREMENT_RATE * options.learning_rate
        return Recipe(1, batch_size, rate, options.weight_decay, None, constant=True), 1
    recipe = Recipe(
        epochs=epochs * n_pools,
        batch_size=batch_size,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        n_iter_no_change=patience * n_pools if validates and patience is not None else None,
        turned=turned,
    )
    return recipe, epochs


def _sizes(options: Any, n_rows: int, n_drawn: int = 0) -> tuple[int, int, bool]:
    """Rows per batch, epochs, and whether steps are in eigenbases, for so many rows.

    `n_drawn` of them are drawn from a model of the others.
    """
    sized = options.batch_size != "auto"
    batch_size = int(options.batch_size) if sized else auto_batch_size(n_rows)
    shapes = (options.module_shape, options.first_module_shape, _encoder_shape(options))
    turned = turns(batch_size, max(width for shape in shapes for width in shape or ()))
    automatic = options.epochs == "auto"
    automatic_epochs = auto_epochs(n_rows, turned=turned, n_drawn=n_drawn)
    return batch_size, automatic_epochs if automatic else int(options.epochs), turned


def _seeds(n_members: int, generator: torch.Generator) -> Sequence[list[int]]:
    return torch.randint(2**62, (2, n_members), generator=generator).tolist()


def _encoder_shape(options: Any) -> tuple[int, ...]:
    """Hidden widths of the encoder of x; "auto" has none behind encoders of parts."""
    if not _is_auto(options.encoder_shape):
        return tuple(options.encoder_shape or ())
    if options.encoder is not None:
        return ()
    return (*options.module_shape[:ENCODER_LAYERS], options.sequence_features)
