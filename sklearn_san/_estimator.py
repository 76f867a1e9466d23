"""The scikit-learn estimator: validate, fit, call down, restore the user's shape."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from . import _validation as validation
from ._callbacks import CallbackSupportMixin, FitMonitor, with_callbacks
from ._discrete import Ordinal
from ._likelihood import Likelihood
from ._linear_base import fit_linear_base, match_marginals
from ._model import FittedModel, make_generator
from ._network import SAN, FreeRunning
from ._saving import load_estimator, save_estimator
from ._scaling import InputScaler, OutputScaler
from ._targets import TargetCodec, has_labels, split_columns
from ._training import (
    History,
    Recipe,
    Rows,
    auto_batch_size,
    auto_epochs,
    auto_members,
    train,
    train_in_processes,
)
from .density import ConditionalDensity


class SANConditionalDensityEstimator(CallbackSupportMixin, RegressorMixin, BaseEstimator):
    """Conditional density p(y | x) of one or more outputs by a sequential autoregressive network.

    The joint density is a chain of one-dimensional mixtures,
    ``log p(y | x) = sum_d log p(y_d | y_1..y_(d-1), x)``, each with parameters from a small neural
    network. It is exact and normalised, respects hard limits, and can be sampled directly.

    Parameters
    ----------
    K : int, default=10
        Number of mixture components of each conditional.
    module_shape : sequence of int, default=(64, 64, 64)
        Hidden widths of the network of every output.
    first_module_shape : sequence of int, default=None
        Hidden widths for the first output, whose network sees x alone. None takes
        `module_shape`.
    sequence_features : int, default=16
        Number of features that the network of one output hands to the next.
    encoder_shape : sequence of int, default=None
        Hidden widths of an encoder of x shared by all outputs; None means none.
    activation : {"silu", "relu", "gelu", "elu", "tanh"}, default="silu"
        Activation of the hidden layers.
    layer_norm : bool, default=True
        Whether to normalise the hidden layers.
    likelihood : str, Likelihood, list or dict of these, default="auto"
        Family of the conditionals, for all outputs, one for each, or by column name: a short
        name such as "mog" (Gaussian mixture), "truncated_mog" (the same inside `limits`),
        "categorical" or "ordinal", or an instance; see `sklearn_san.likelihoods`. "auto" takes
        "truncated_mog" for outputs with limits, "categorical" for columns of text or booleans,
        and "mog" for all others. Discrete outputs contribute log probabilities to the score,
        continuous ones log densities: compare models that treat each output in the same way.
    likelihood_params : dict, default=None
        Constructor arguments for families given by name.
    limits : array-like of shape (n_outputs, 2), default=None
        Lower and upper limit of every output in the units of y; infinities allowed. No draw
        leaves them, and the density is normalised inside.
    order : sequence of int or str, default=None
        Autoregressive order of the outputs, by column number or name. None is the order given.
    linear_base : bool or "auto", default="auto"
        Whether the network models the residual of a least-squares fit of each output on x and
        the outputs before it. "auto" does so for outputs of which that leaves less than half
        the standard deviation.
    x_scaler, y_scaler : {"standard", "minmax", "maxabs", "robust", "power"}, scaler or None, \
default="standard"
        Scaler of the features and the targets: a short name, an instance of the scikit-learn
        class it stands for, or None for none. Fitted on the training part only.
    teacher_forcing : bool, default=True
        Whether training shows the network the true earlier outputs. False shows it its own draws,
        as the first SAN did; it then cannot learn how the outputs depend on each other.
    train_rsample : bool, default=False
        With ``teacher_forcing=False``, whether gradients flow through these draws.
    n_members : int or "auto", default="auto"
        Networks of different initial weights and validation rows. The predictive density is the
        mean of their densities, and each draw comes from one of them. "auto" takes the more the
        fewer rows there are.
    n_jobs : int, default=None
        Processes that share the members, as for joblib. None and 1 train them side by side in
        this process, on all of torch's threads; with more there is no progress bar, callbacks
        see the end only, and Ctrl-C gives up the fit. Results are equal up to rounding errors,
        which training amplifies.
    epochs : int or "auto", default="auto"
        Passes over the training rows. "auto" takes fewer the more rows there are.
    batch_size : int or "auto", default="auto"
        Rows per gradient step; "auto" takes between 32 and 256, the more the more rows.
    learning_rate : float, default=0.02
        Largest learning rate of the one-cycle schedule.
    weight_decay : float, default=0.001
        Decoupled weight decay of AdamW.
    early_stopping : bool or "auto", default="auto"
        Whether to set rows aside for validation, keep the weights that are best on them, and
        stop when they no longer improve. "auto" does so from 100 rows on.
    validation_fraction : float, default=0.1
        Share of the rows set aside.
    n_iter_no_change : int or None, default=20
        Epochs without improvement after which training stops; None never stops early.
    dtype : {"float32", "float64"}, default="float32"
        Precision of training, `log_prob` and `sample`.
    device : str or torch.device, default="auto"
        Where to compute; "auto" takes CUDA where there is one, else the CPU.
    verbose : bool, default=False
        Whether to show a progress bar with the losses.
    random_state : int, RandomState or None, default=None
        Seed of the initial weights, the split and the order of rows. None draws fresh entropy;
        the global random state is neither read nor changed.

    Attributes
    ----------
    network_ : torch.nn.Module
        The trained network, on the CPU.
    x_scaler_, y_scaler_ : object
        Fitted scalers; the latter in autoregressive order.
    order_ : ndarray of shape (n_outputs,)
        Column of y that comes first, second, ... in the network.
    limits_ : ndarray of shape (n_outputs, 2)
        Limits in the units of y.
    families_ : list of Likelihood
        Family of each output, in autoregressive order.
    codec_ : object
        Labels of y and their codes.
    output_names_ : list of str
        Names of the columns of y.
    n_outputs_ : int
        Number of columns of y.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if they all were strings.
    n_iter_ : int
        Epochs that were run.
    best_epoch_ : int
        Epoch whose weights were kept.
    n_members_, epochs_, batch_size_ : int
        Resolved parameters.
    loss_curve_ : list of float
        Mean negative log-likelihood of the training rows during each epoch, in nats per row and
        the units of y.
    validation_curve_ : list of float
        The same for the validation rows after each epoch; empty without validation.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(500, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=10, random_state=0).fit(X, y)
    >>> est.sample(X[:4], n_samples=7, random_state=0).shape
    (4, 7, 2)
    >>> est.predict(X[:4]).shape
    (4, 2)
    """

    def __init__(
        self,
        *,
        K: int = 10,
        module_shape: Any = (64, 64, 64),
        first_module_shape: Any = None,
        sequence_features: int = 16,
        encoder_shape: Any = None,
        activation: str = "silu",
        layer_norm: bool = True,
        likelihood: Any = "auto",
        likelihood_params: dict[str, Any] | None = None,
        limits: Any = None,
        order: Any = None,
        linear_base: bool | str = "auto",
        x_scaler: Any = "standard",
        y_scaler: Any = "standard",
        teacher_forcing: bool = True,
        train_rsample: bool = False,
        n_members: int | str = "auto",
        n_jobs: int | None = None,
        epochs: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float = 0.02,
        weight_decay: float = 0.001,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = 20,
        dtype: str = "float32",
        device: Any = "auto",
        verbose: bool | int = False,
        random_state: Any = None,
    ):
        self.K = K
        self.module_shape = module_shape
        self.first_module_shape = first_module_shape
        self.sequence_features = sequence_features
        self.encoder_shape = encoder_shape
        self.activation = activation
        self.layer_norm = layer_norm
        self.likelihood = likelihood
        self.likelihood_params = likelihood_params
        self.limits = limits
        self.order = order
        self.linear_base = linear_base
        self.x_scaler = x_scaler
        self.y_scaler = y_scaler
        self.teacher_forcing = teacher_forcing
        self.train_rsample = train_rsample
        self.n_members = n_members
        self.n_jobs = n_jobs
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.dtype = dtype
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """Describe what the estimator accepts."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        # `score` is a log-likelihood, not a coefficient of determination.
        tags.regressor_tags.poor_score = True
        return tags

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SANConditionalDensityEstimator:
        """Fit the density by maximum likelihood.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; rows of weight zero are dropped.

        Returns
        -------
        self : object
            The fitted estimator. If anything fails, it is left as it was before.

        Raises
        ------
        ValueError, TypeError
            For parameters or data that cannot be used, before anything is trained.
        """
        before = dict(vars(self))
        try:
            return self._fit(X, y, sample_weight)
        except BaseException:
            # Callbacks keep state of their own on the estimator until the fit is torn down.
            kept = {k: v for k, v in vars(self).items() if k.startswith(("_callback", "_skl"))}
            self.__dict__ = before | kept
            raise

    def predict_density(self, X: Any) -> ConditionalDensity:
        """Conditional density of every row, as an object.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ConditionalDensity
            With `sample`, `log_prob`, `mean`, `std`, `cov`, `quantile`, `interval`, `mode`, `cdf`,
            `inverse_cdf`, `marginal`, `given`, `marginalise`, `entropy` and `kl`.
        """
        check_is_fitted(self, "network_")
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        model = FittedModel(
            self.network_,
            self.x_scaler_,
            self.y_scaler_,
            self.order_,
            self.limits_,
            self.families_,
            self.codec_,
            self._one_dimensional,
            validation.check_device(self.device),
        )
        return ConditionalDensity(model, X)

    def log_prob(self, X: Any, y: Any, *, given: Any = None) -> np.ndarray:
        """Log density of y given X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        given : dict, default=None
            Known outputs, as for `sample`; then the density is that of all others.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats, per unit of every output; -inf outside the limits.
        """
        density = self.predict_density(X)
        return density.log_prob(y) if given is None else density.given(given).log_prob(y)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean log-likelihood per row; larger is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        float
            In nats per row and the original units of y; the negative of the test NLL.
        """
        log_prob = self.log_prob(X, y)
        if sample_weight is None:
            return float(log_prob.mean())
        weight = validation.check_weight(sample_weight, len(log_prob))
        used = weight > 0
        return float(np.average(log_prob[used], weights=weight[used]))

    def sample(
        self,
        X: Any,
        n_samples: int = 1,
        *,
        random_state: Any = None,
        given: Any = None,
        return_ess: bool = False,
        method: str = "random",
        dtype: Any = np.float64,
        as_frame: bool = False,
        out: np.ndarray | None = None,
    ) -> Any:
        """Draw from p(y | x) for every row of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        n_samples : int, default=1
            Number of draws for each row, `n_draws` below.
        random_state : int, RandomState or None, default=None
            The same seed gives the same draws; None gives fresh ones.
        given : dict, default=None
            Known outputs, by column number or name: one value, or one for each row. Exact if
            they come first in `order`; otherwise draws are resampled by importance weights.
        return_ess : bool, default=False
            With `given`, whether to return the effective sample size of each row as well.
        method : {"random", "sobol"}, default="random"
            Independent draws, or quasi-random ones of less variance; see
            `ConditionalDensity.sample`.
        dtype : {float32, float64}, default=float64
            Of the result.
        as_frame : bool, default=False
            Whether to return a pandas frame with a row for each draw and y's column names.
        out : ndarray of floats, default=None
            Array of the shape of the result that the draws are written to, such as a memory map
            for more of them than fit in memory; may be float32. It is returned.

        Returns
        -------
        ndarray of shape (n_samples, n_draws, n_outputs), or DataFrame
            In the units of y, inside the limits; ``(n_samples, n_draws)`` if y was
            one-dimensional in `fit`. The dtype is object if some labels are no numbers. A frame
            has y's own dtype in each column and is indexed by row and draw.
        """
        density = self.predict_density(X)
        validation.check_integer("n_samples", n_samples, 1)
        validation.check_boolean("as_frame", as_frame)
        validation.check_boolean("return_ess", return_ess)
        if return_ess and given is None:
            raise ValueError("return_ess=True goes with given=; plain draws all count fully.")
        if given is not None:
            if method != "random" or as_frame or out is not None:
                raise ValueError("given= goes neither with method=, as_frame= nor out=.")
            return density.given(given).sample(
                n_samples, random_state=random_state, return_ess=return_ess
            )
        if as_frame and out is not None:
            raise ValueError("out= takes numbers: it does not go with as_frame.")
        if as_frame:
            return density.to_frame(
                n_samples, random_state=random_state, index=getattr(X, "index", None)
            )
        return density.sample(
            n_samples,
            random_state=random_state,
            method=method,
            dtype=dtype,
            out=out,
            progress=bool(self.verbose),
        )

    def predict(
        self,
        X: Any,
        *,
        output_type: str = "mean",
        quantiles: Any = (0.05, 0.5, 0.95),
        n_samples: int = 1,
        random_state: Any = None,
    ) -> np.ndarray:
        """Summarise p(y | x) for every row of X, by default by its mean.

        All summaries are deterministic. Where there is no closed form, all rows share one fixed
        set of quasi-random points: 256 for moments, 1,024 for quantiles and modes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        output_type : {"mean", "median", "std", "quantiles", "mode", "samples"}, default="mean"
            Mean, median, standard deviation and quantiles are those of the marginal distribution
            of each output; the mode is the point of highest joint density.
        quantiles : float or sequence of float, default=(0.05, 0.5, 0.95)
            Levels for ``output_type="quantiles"``, strictly between 0 and 1.
        n_samples : int, default=1
            Number of draws for ``output_type="samples"``.
        random_state : int, RandomState or None, default=None
            Seed of the draws for ``output_type="samples"``.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
            In the units of y; ``(n_samples,)`` if y was one-dimensional in `fit`. Quantiles and
            draws have their own axis after that of the rows.
        """
        validation.check_choice("output_type", output_type, validation.OUTPUT_TYPES)
        if output_type == "samples":
            return self.sample(X, n_samples, random_state=random_state)
        density = self.predict_density(X)
        if output_type == "quantiles":
            return density.quantile(quantiles)
        if output_type == "median":
            return density.quantile(0.5)[:, 0]
        return getattr(density, output_type)()

    def save(self, path: Any) -> None:
        """Write the fitted model to one file that can be loaded without trust in its author.

        The file is of safetensors and holds parameters, fitted attributes and a checksum, no
        code. Callbacks, and hooks on the network, are not saved.

        Parameters
        ----------
        path : str or path-like
            File, which is replaced in one step if it exists; the ending is up to you, such as
            "model.safetensors".

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it holds something that is no data, such as a family of likelihood of your own;
            tells where. `joblib.dump` can save that.
        FileNotFoundError, PermissionError
            If there is no such folder, or it may not be written to.

        Examples
        --------
        >>> import os, tempfile
        >>> from sklearn_san import SANConditionalDensityEstimator
        >>> from sklearn_san.datasets import make_bimodal
        >>> X, y, _ = make_bimodal(200, random_state=0)
        >>> est = SANConditionalDensityEstimator(epochs=1, n_members=1, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     est.save(os.path.join(folder, "model.safetensors"))
        ...     again = est.load(os.path.join(folder, "model.safetensors"))
        >>> again.score(X, y) == est.score(X, y)
        True
        """
        save_estimator(self, path)

    @classmethod
    def load(cls, path: Any) -> SANConditionalDensityEstimator:
        """Fitted model from a file that `save` wrote, on any machine.

        Densities, and draws with a seed, are those of the model that was saved, bit by bit on
        the same versions of all packages. Nothing in the file is executed.

        Parameters
        ----------
        path : str or path-like
            File.

        Returns
        -------
        estimator : object
            Of the class on which `load` is called.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        CorruptModelError
            If the file is damaged, of another kind, or of a later format than this version of
            the package reads. It is a `ValueError`.
        """
        return load_estimator(cls, path)

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> SANConditionalDensityEstimator:
        validation.check_parameters(self.get_params(deep=False))
        device = validation.check_device(self.device)
        data = {"X": X, "y": y}  # as callbacks may pass them to `score`
        X, columns, names = self._check_data(X, y)
        limits = validation.check_limits(self.limits, names)
        order = validation.check_order(self.order, names)
        families = validation.check_likelihoods(
            self.likelihood,
            self.likelihood_params,
            limits,
            [has_labels(column) for column in columns],
            names,
        )
        codec = TargetCodec(
            names,
            [family.scaling == "none" for family in families],
            [isinstance(family, Ordinal) and family.spacing == 1.0 for family in families],
        ).fit(columns)
        y = codec.encode(columns)
        X, y, weight = _drop_zero_weights(X, y, sample_weight)
        validation.check_targets(y, limits, names)
        for d, family in enumerate(families):
            family.check_values(y[:, d], f"output {d} ({names[d]})")
        validation.warn_of_ties(families, y, names)

        generator = make_generator(self.random_state)
        n_members = auto_members(len(y)) if self.n_members == "auto" else int(self.n_members)
        training, holdout = _split(len(y), self._n_validation(len(y)), n_members, generator)
        y = y[:, order]
        ordered = [families[j] for j in order]
        classes = [codec.classes[j] for j in order]
        used = np.unique(training)
        x_scaler, y_scaler, network = self._build(
            (X[used], y[used], None if weight is None else weight[used]),
            limits[order],
            ordered,
            classes,
            n_members,
            generator,
        )
        self.codec_, self.families_ = codec, ordered
        self.network_, self.x_scaler_, self.y_scaler_ = network, x_scaler, y_scaler
        self.order_, self.limits_ = order, limits
        self.output_names_, self.n_outputs_ = names, len(names)

        rows, held_out = self._rows(X, y, weight, (training, holdout))
        assert rows is not None  # there is at least one row to train on
        history = self._train(
            rows,
            held_out,
            device,
            generator,
            data,
        )
        self.n_members_ = n_members
        self.n_iter_, self.best_epoch_ = len(history.train), history.best_epoch
        self.loss_curve_, self.validation_curve_ = history.train, history.validation
        return self

    def _n_validation(self, n_rows: int) -> int:
        wanted = n_rows >= 100 if self.early_stopping == "auto" else self.early_stopping
        if not wanted:
            return 0
        n_validation = max(1, round(self.validation_fraction * n_rows))
        if n_rows - n_validation < 2:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {n_rows} rows leaves fewer "
                "than 2 to train on; lower it or set early_stopping=False."
            )
        return n_validation

    def _build(
        self,
        training: tuple[np.ndarray, np.ndarray, np.ndarray | None],
        limits: np.ndarray,
        families: list[Likelihood],
        classes: list[np.ndarray | None],
        n_members: int,
        generator: torch.Generator,
    ) -> tuple[InputScaler, OutputScaler, SAN]:
        """Fit the scalers and the linear base on the training part; build the network.

        Everything is in autoregressive order.
        """
        X, y, weight = training
        x_scaler = InputScaler(self.x_scaler).fit(X, weight)
        y_scaler = OutputScaler(self.y_scaler, [family.scaling for family in families])
        z = y_scaler.fit(y, weight).transform(y)
        scaled_limits = y_scaler.transform_limits(limits)
        families = validation.check_range(
            families, scaled_limits, self.likelihood, self.likelihood_params
        )
        x = x_scaler.transform(X)
        base, residual = fit_linear_base(x, z, weight, self.linear_base, families)
        units, origins = y_scaler.unit(y) * base.scale.numpy(), y_scaler.origin()
        resolved = [
            family.resolve(
                K=self.K,
                unit=units[d],
                origin=origins[d],
                n_classes=None if labels is None else len(labels),
            )
            for d, (family, labels) in enumerate(zip(families, classes, strict=True))
        ]
        network = SAN(
            X.shape[1],
            resolved,
            match_marginals(resolved, scaled_limits, base, z, residual, weight),
            scaled_limits,
            base,
            n_members=n_members,
            first_module_shape=self.first_module_shape or self.module_shape,
            module_shape=self.module_shape,
            encoder_shape=self.encoder_shape or (),
            sequence_features=self.sequence_features,
            activation=self.activation,
            layer_norm=self.layer_norm,
            generator=generator,
        )
        return x_scaler, y_scaler, network

    def _rows(
        self,
        X: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray | None,
        parts: tuple[np.ndarray, np.ndarray],
    ) -> list[Rows | None]:
        """Scaled rows of each part, with the Jacobian that brings losses back to y's units."""
        x, z = self.x_scaler_.transform(X), self.y_scaler_.transform(y)
        mass = self.network_.double().is_mass(torch.from_numpy(x), torch.from_numpy(z)).numpy()
        jacobian = np.where(mass, 0.0, self.y_scaler_.log_jacobian(y)).sum(axis=1)
        dtype = validation.DTYPES[self.dtype]
        columns = (torch.as_tensor(x, dtype=dtype), torch.as_tensor(z, dtype=dtype))
        weights = None if weight is None else torch.as_tensor(weight, dtype=dtype)
        rows: list[Rows | None] = []
        for index in parts:
            share = None if weight is None else weight[index]
            offset = -np.average(jacobian[index], axis=1, weights=share) if index.size else None
            rows.append(
                None
                if offset is None
                else Rows(columns, torch.from_numpy(index), weights, torch.from_numpy(offset))
            )
        return rows

    def _train(
        self,
        training: Rows,
        holdout: Rows | None,
        device: torch.device,
        generator: torch.Generator,
        data: dict[str, Any],
    ) -> History:
        """Train `network_` in place and bring it back to the CPU."""
        n_rows, auto = len(training), "auto"
        self.batch_size_ = (
            auto_batch_size(n_rows) if self.batch_size == auto else int(self.batch_size)
        )
        self.epochs_ = auto_epochs(n_rows) if self.epochs == auto else int(self.epochs)
        recipe = Recipe(
            epochs=self.epochs_,
            batch_size=self.batch_size_,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            n_iter_no_change=None if holdout is None else self.n_iter_no_change,
        )
        network = self.network_.to(device, validation.DTYPES[self.dtype])
        n_jobs = min(effective_n_jobs(self.n_jobs), network.n_members)
        shape = (2, network.n_members)
        seeds, other_seeds = torch.randint(2**62, shape, generator=generator).tolist()
        objective: SAN | FreeRunning = network
        if not self.teacher_forcing:
            objective = FreeRunning(network, self.train_rsample, other_seeds)
        training = training.to(device)
        holdout = None if holdout is None else holdout.to(device)
        monitor = FitMonitor(self, data, self.epochs_, bool(self.verbose), self._attributes_so_far)
        try:
            if n_jobs == 1:
                history = train(objective, training, holdout, recipe, seeds, monitor.end_epoch)
            else:
                history = train_in_processes(objective, training, holdout, recipe, seeds, n_jobs)
                monitor.end_epoch(len(history.train), history)
        finally:
            monitor.close()
            network.zero_grad(set_to_none=True)
            network.to("cpu").requires_grad_(False).eval()
        return history

    def _attributes_so_far(self) -> dict[str, Any]:
        """Attributes that make a copy usable while the fit goes on."""
        return {"network_": copy.deepcopy(self.network_).to("cpu").eval()}

    def _check_data(self, X: Any, y: Any) -> tuple[np.ndarray, list[np.ndarray], list[str]]:
        """Features in float64, the columns of y as they are, and their names."""
        options: dict[str, Any] = {"dtype": np.float64, "ensure_min_samples": 2}
        kinds = set() if y is None else {column.dtype.kind for column in split_columns(y)[0]}
        if kinds <= set("iufc"):  # numbers throughout: scikit-learn's own checks and messages
            X, _ = validate_data(self, X, y, multi_output=True, y_numeric=True, **options)
        else:
            X = validate_data(self, X, **options)
        columns, names, self._one_dimensional = split_columns(y)
        check_consistent_length(X, columns[0])
        return X, columns, names


def _drop_zero_weights(
    X: np.ndarray, y: np.ndarray, sample_weight: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Rows that count, and their weights with mean 1."""
    if sample_weight is None:
        return X, y, None
    weight = validation.check_weight(sample_weight, len(y))
    used = weight > 0
    if used.sum() < 2:
        raise ValueError(f"sample_weight is positive for {used.sum()} row; at least 2 are needed.")
    return X[used], y[used], weight[used] / weight[used].mean()


def _split(
    n_rows: int, n_validation: int, n_members: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and to validate on for each member, (n_members, ...) each.

    Members validate on different rows, so that together they learn from all.
    """
    permutation = torch.randperm(n_rows, generator=generator).numpy()
    rolled = np.stack([np.roll(permutation, -m * n_validation) for m in range(n_members)])
    return rolled[:, n_validation:], rolled[:, :n_validation]
