"""The scikit-learn estimator: validate, fit, call down, restore the user's shape."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state, resample
from sklearn.utils.validation import check_is_fitted

from . import _validation as validation
from ._callbacks import CallbackSupportMixin, FitMonitor, with_callbacks
from ._caller_state import own_state
from ._checkpoints import DiskCheckpoint, MemoryCheckpoint, fingerprint
from ._columns import is_missing
from ._description import describe
from ._distributed import Ranks, current_ranks
from ._draws import mean_of_rows
from ._engines import engine_report, load_kernels
from ._fitting import Fitted, Silence, fit_ensemble, order_trials
from ._masking import MaskedDensity
from ._model import FittedModel, make_generator
from ._parts import encoders_by_name, n_rows_of, take_rows
from ._rows import Held, as_rows
from ._saving import load_estimator, save_estimator
from ._schema import Features, Reader, Schema, read_errors, read_inputs
from ._synthetic import with_drawn_rows
from ._tables import without_mask
from ._targets import has_gaps, matching_columns
from ._training import History
from .density import ConditionalDensity
from .exceptions import BadRowsWarning, warn_caller

#: Parameters of a network in place of an ensemble; its layers are wider by the factor below.
STUDENT = {
    "n_members": 1,
    "epochs": 9,
    "batch_size": "auto",
    "validation_fraction": 0.03,
    "checkpoint_dir": None,
}
STUDENT_WIDTH = 1.5


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
    encoder : Module, callable, dict or sequence of these, default=None
        Encoder of an X that is more than columns, such as spectra, images or sets: a torch module
        that makes features ``(n, n_features)`` of a float tensor ``(n, ...)``, of which each member
        trains a copy; or a function of the shape of one row that makes one. X is then an array
        ``(n_samples, ...)`` of any number of dimensions. For several parts, X and `encoder` are
        dicts with the names of parts, or sequences in their order; parts without an encoder are
        plain columns. See the guide.
    share_encoder : bool, default=False
        Whether one encoder serves all members, which train it together, on the same rows, in place
        of one for each. That takes less time, and the members differ less.
    encoder_shape : "auto", sequence of int or None, default="auto"
        Hidden widths of an encoder of x, whose last layer all outputs see besides x. What sees x
        alone is computed once per row, and so costs no time in draws. "auto" takes the first two
        widths of `module_shape`, then `sequence_features`, and no such encoder where X goes
        through `encoder`; None means none.
    feature_encoding : {"auto", "piecewise_linear"} or None, default="auto"
        Encoding of the numbers in X that the network sees besides them: "piecewise_linear" gives
        the progress of each through the intervals between its quantiles. "auto" tries it and, if
        both are "auto", trees: the one is kept with which a short fit is best, and clearly better
        than without, on rows that were not learned from. That is so for tables of 200 to 50,000
        rows without measurement errors, gaps, `missing_rate` and `groups`; it is off elsewhere.
    tree_features : bool or "auto", default="auto"
        Whether the network sees predictions of y by gradient-boosted trees, as further features.
        They are out of fold: the rows to learn from are predicted by trees that have not seen
        them. With fewer than 10,000 rows it also sees mean and spread of predictions by random
        trees that have a leaf for each row; from 2,000 rows on, mean and spread of y among the
        five most similar rows of `fit`, and how near these are. The trees, and at most 50,000 of
        these rows, are part of the model and its files. "auto" tries both, like `feature_encoding`.
    synthetic_rows : int or "auto", default="auto"
        Rows to learn from besides those that are given, drawn from a model of these: from the
        density of y, and from that of x given y. Where y are parameters and x is what follows from
        them with some noise, as in simulations, these two are easier to learn than y given x. Only
        rows that were given validate. "auto" tries it on some of the rows, and draws ten for
        each, at most 100,000, where that improves the density of others; it does so with the other
        parameters of training at "auto", for tables of 500 to 50,000 rows, at most 32 features and
        at least two outputs, all of them numbers, without gaps, measurement errors and `groups`.
    activation : {"silu", "relu", "gelu", "elu", "tanh"}, default="silu"
        Activation of the hidden layers.
    layer_norm : bool, default=True
        Whether to normalise the hidden layers.
    likelihood : str, Likelihood, list or dict of these, default="auto"
        Family of the conditionals, for all outputs, one for each, or by column name: a short
        name such as "mog" (Gaussian mixture), "truncated_mog" (the same inside `limits`),
        "categorical" or "ordinal", or an instance; see `sklearn_san.likelihoods`. "auto" takes
        "truncated_mog" for outputs with limits, "categorical" for columns of text, booleans or
        the type category, and "mog" for all others. Discrete outputs contribute log probabilities
        to the score, continuous ones log densities: compare models that treat each output in the
        same way.
    likelihood_params : dict, default=None
        Constructor arguments for families given by name.
    limits : array-like of shape (n_outputs, 2), pair, or dict of pairs, default=None
        Lower and upper limit of every output in the units of y; infinities allowed. No draw
        leaves them, and the density is normalised inside. One pair, such as ``(0, np.inf)``,
        holds for all outputs; a dict, such as ``{"redshift": (0, 4)}``, for those that it names,
        and others have none. A frame with the names of the outputs as its index is read by name.
    output_names : sequence of str, default=None
        Names of the outputs, wherever these are named, for y without names of its own. None takes
        those of a frame, else y0, y1, ...
    order : "auto", None or sequence of int or str, default="auto"
        Autoregressive order of the outputs, by column number or name. "auto" takes another order
        than that of y's columns where it is easier to learn, as short fits to at most 20,000 rows
        tell, in a third of the time of the fit at most (where that allows none, a small network);
        fewer than 5000 rows or three outputs stay as given, and with None all do. A sequence that
        ends in an ellipsis, ``["redshift", ...]``, says which come first and leaves the rest to
        "auto". Outputs that lack values come last.
    linear_base : bool or "auto", default="auto"
        Whether the network models the residual of a least-squares fit of each output on x and
        the outputs before it. "auto" does so for outputs of which that leaves less than half
        the standard deviation.
    x_scaler : {"standard", "minmax", "maxabs", "robust", "power", "box-cox"}, scaler or None, \
default="standard"
        Scaler of the features: a short name, an instance of the scikit-learn class it stands for,
        or None for none. Fitted on the training part only. "standard" leaves out values that are
        far from all others, and compresses what lies far beyond the rest.
    y_scaler : {"auto", "standard", "skew", "minmax", "maxabs", "robust", "power", "box-cox"}, \
scaler or None, default="auto"
        The same for the targets. "skew" takes powers from a logarithm to none, by maximum
        likelihood, of outputs without negative values, and standardises the others. "auto" tries
        it where an output without an upper limit is so skewed that about a logarithm is best, by a
        short fit, and is "standard" elsewhere. "box-cox" with ``limits=(0, np.inf)`` keeps positive
        targets positive; "power", Yeo-Johnson, is for skewed ones of either sign and may give
        heavy tails.
    missing_rate : float, dict of str to float, or "auto", default="auto"
        What of X training hides, other values in each epoch. "auto" hides in each row what is
        missing (nan) in another row of `fit`, in fewer and fewer rows to the end of training;
        nothing in `partial_fit`. A number hides that share of the values of half of the rows, a
        dict of names of features and parts, such as ``{"spectrum": 0.5}``, that share of each in
        all rows. What is hidden may be missing later; else only what lacks values in `fit`.
    nondetection : {"inf"} or None, default=None
        What infinities in X mean: "inf" makes them a state of their own, a feature that was looked
        for and not seen; None refuses them. In a feature that had none in `fit` infinity is a
        missing value, and refused like that where none may be missing.
    categorical_features : "from_dtype", sequence of int or str, or None, default="from_dtype"
        Features that are categories. "from_dtype" takes the columns of a frame that hold text,
        booleans or, by their type, categories of anything. Each is a row of zeros and a one to
        the network; categories that were not there in `fit` are missing values, with an
        `UnknownCategoryWarning`.
    use_errors : bool, default=False
        Whether the network sees the measurement errors `X_err` as features, in `fit` and later.
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
        Passes over the training rows. "auto" takes fewer the more rows there are, 75 or less from
        2,000 rows on, and half as many or fewer where batches are large enough for steps in
        eigenbases.
    batch_size : int or "auto", default="auto"
        Rows per gradient step; "auto" takes between 32 and 256, the more the more rows. From 64
        on, and with no layer wider than 128, AdamW works in the eigenbases of the gradients of
        each matrix of weights, as in SOAP [1]_. A share of each step is by the last gradient
        instead of a mean of many [2]_.
    learning_rate : float, default=0.02
        Largest learning rate of the one-cycle schedule; in eigenbases 0.6 of it.
    weight_decay : float, default=0.001
        Decoupled weight decay of AdamW.
    early_stopping : bool or "auto", default="auto"
        Whether to set rows aside for validation, keep the weights that are best on them, and
        stop when they no longer improve. These rows also tell by how much the scales of mixtures
        are too small, which is made up for in the end. "auto" does so; below 100 rows members
        take turns to validate on all rows, one epoch is kept for all, and below 20 the starting
        point is kept.
    validation_fraction : float, default=0.1
        Share of the rows set aside.
    n_iter_no_change : int or None, default=20
        Epochs without improvement after which training stops; None never stops early.
    dtype : {"float32", "float64"}, default="float32"
        Precision of training, `log_prob` and `sample`.
    device : str or torch.device, default="auto"
        Where to compute; "auto" takes CUDA where there is one, else the CPU.
    verbose : bool, default=False
        Whether to show a progress bar with the losses on standard error, or a line twice a minute
        where that is no terminal.
    random_state : int, RandomState or None, default=None
        Seed of the initial weights, the split and the order of rows. None draws fresh entropy;
        the global random state is neither read nor changed.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights, scalers and labels of the fit before.
    checkpoint_dir : str or path, default=None
        Folder in which the state of the training is kept, once a second at most, in a file for
        each set of parameters and data. A fit that was killed goes on from there, with the same
        result as one that was not; so do the fits of a search.

    Attributes
    ----------
    network_ : torch.nn.Module
        The trained network, on the CPU.
    input_encoder_ : object
        Fitted map from X to what the network sees.
    y_scaler_ : object
        Fitted scaler of y, in autoregressive order.
    novelty_ : object
        What `novelty_score` compares with: at most 2,000 rows of X, as the network sees them.
    feature_table_ : object or None
        Categories of X, if it has any.
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
        Number of features; of parts of X, those that are plain columns.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if they all were strings.
    part_shapes_ : dict of str to tuple of int
        Shape of one row of each part of X that goes through an encoder.
    feature_labels_ : list of str
        Names of the columns of a frame, if they were something else.
    feature_units_ : dict of str to str
        Units of the features that had one.
    layout_ : object or None
        Parts of X, if it is more than columns.
    encoders_ : torch.nn.Module or None
        Trained encoders of these.
    engine_ : str
        What evaluates the network: "compiled" for kernels compiled for this CPU, or "torch: " and
        the reason why not.
    n_synthetic_rows_ : int
        Rows that were drawn to learn from, besides those that were given.
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

    References
    ----------
    .. [1] Vyas et al. (2024), "SOAP: Improving and Stabilizing Shampoo using Adam",
       arXiv:2409.11321.
    .. [2] Ma and Yarats (2019), "Quasi-hyperbolic momentum and Adam for deep learning",
       arXiv:1810.06801.

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
        encoder: Any = None,
        share_encoder: bool = False,
        encoder_shape: Any = "auto",
        feature_encoding: str | None = "auto",
        tree_features: bool | str = "auto",
        synthetic_rows: int | str = "auto",
        activation: str = "silu",
        layer_norm: bool = True,
        likelihood: Any = "auto",
        likelihood_params: dict[str, Any] | None = None,
        limits: Any = None,
        output_names: Any = None,
        order: Any = "auto",
        linear_base: bool | str = "auto",
        x_scaler: Any = "standard",
        y_scaler: Any = "auto",
        missing_rate: float | str | dict[str, float] = "auto",
        nondetection: str | None = None,
        categorical_features: Any = "from_dtype",
        use_errors: bool = False,
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
        warm_start: bool = False,
        checkpoint_dir: Any = None,
    ):
        self.K = K
        self.module_shape = module_shape
        self.first_module_shape = first_module_shape
        self.sequence_features = sequence_features
        self.encoder = encoder
        self.share_encoder = share_encoder
        self.encoder_shape = encoder_shape
        self.feature_encoding = feature_encoding
        self.tree_features = tree_features
        self.synthetic_rows = synthetic_rows
        self.activation = activation
        self.layer_norm = layer_norm
        self.likelihood = likelihood
        self.likelihood_params = likelihood_params
        self.limits = limits
        self.output_names = output_names
        self.order = order
        self.linear_base = linear_base
        self.x_scaler = x_scaler
        self.y_scaler = y_scaler
        self.missing_rate = missing_rate
        self.nondetection = nondetection
        self.categorical_features = categorical_features
        self.use_errors = use_errors
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
        self.warm_start = warm_start
        self.checkpoint_dir = checkpoint_dir

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        if "network_" in vars(self):
            load_kernels(self.network_)

    def __sklearn_tags__(self) -> Any:
        """Describe what the estimator accepts."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        # `score` is a log-likelihood, not a coefficient of determination.
        tags.regressor_tags.poor_score = True
        tags.input_tags.allow_nan = True
        return tags

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name.

        Parameters
        ----------
        deep : bool, default=True
            Whether to give those of parameters that are estimators, too. Of several encoders,
            those of the part ``spectrum`` are called ``encoder__spectrum__...``.

        Returns
        -------
        dict of str to object
        """
        params = super().get_params(deep)
        for part, one in encoders_by_name(self.encoder).items() if deep else ():
            params[f"encoder__{part}"] = one
            if hasattr(one, "get_params") and not isinstance(one, type):
                own = one.get_params().items()
                params |= {f"encoder__{part}__{name}": value for name, value in own}
        return params

    def set_params(self, **params: Any) -> SANConditionalDensityEstimator:
        """Set parameters.

        Parameters
        ----------
        **params
            By the names that `get_params` gives.

        Returns
        -------
        self : object
        """
        if "encoder" in params:
            super().set_params(encoder=params.pop("encoder"))
        several = encoders_by_name(self.encoder)
        nested = {k: v for k, v in params.items() if several and k.startswith("encoder__")}
        super().set_params(**{k: v for k, v in params.items() if k not in nested})
        for key in sorted(nested, key=len):  # whole encoders first
            part, _, name = key.removeprefix("encoder__").partition("__")
            if part not in several:
                raise ValueError(
                    f"Invalid parameter {key!r}: encoder has the parts {', '.join(several)}."
                )
            if name:
                several[part].set_params(**{name: nested[key]})
            else:
                several[part] = nested[key]
        if nested and isinstance(self.encoder, Mapping):
            self.encoder = {k: several[str(k)] for k in self.encoder}
        elif nested:
            self.encoder = type(self.encoder)(several.values())
        return self

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        X_err: Any = None,
        *,
        groups: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        X_err_val: Any = None,
    ) -> SANConditionalDensityEstimator:
        """Fit the density by maximum likelihood.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or iterable of batches
            Features, with nan where a value is missing: arrays, and frames of pandas, polars, Arrow
            and astropy, whose masked values are missing. Memory maps of more than 256 MiB are read
            in pieces. In place of X and y, batches ``(X, y)`` may be given: an iterable that can
            be read more than once, or a function without arguments that returns one. With
            `encoder`, X has rows of any shape, or is a dict or sequence of parts. In a process
            group of ``torch.distributed``, all ranks fit one estimator: they are given the same
            rows, or `OwnBatches`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets. The last ones in the order may be missing (nan) in some rows, which then
            teach the outputs before them; ``order="auto"`` puts those that lack values last.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; rows of weight zero are dropped.
        X_err : array-like of shape (n_samples, n_features), default=None
            Standard deviation of the measurement noise that training adds to X, anew in each
            epoch: what is learned is p(y | x) for x measured with this noise. In the units of X as
            the estimator sees it; columns of a frame are found by name; nan is no error.
        groups : array-like of shape (n_samples,), default=None
            Labels of groups of rows that belong together, such as measurements of one object:
            none is split between the rows learned from and those validated on. Copies of a row
            are kept together anyway.
        X_val, y_val : array-like, default=None
            Rows to validate on, like X and y, in place of a share of these.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the rows to validate on.
        X_err_val : array-like of shape (n_val, n_features), default=None
            Measurement errors of `X_val`, if there are those of X.

        Returns
        -------
        self : object
            The fitted estimator. If anything fails, it is left as it was before.

        Raises
        ------
        ValueError, TypeError
            For parameters or data that cannot be used, before anything is trained.
        KeyboardInterrupt
            If the fit is interrupted, after the best weights so far have been kept, so that the
            estimator is fitted; whoever runs several fits stops.
        """
        validation.check_boolean("warm_start", self.warm_start)
        resume = bool(self.warm_start) and hasattr(self, "network_")
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val go together; pass both or neither.")
        if X_val is None and not (sample_weight_val is None and X_err_val is None):
            raise ValueError("sample_weight_val and X_err_val go with X_val and y_val.")
        held = None if X_val is None else Held(X_val, y_val, sample_weight_val, X_err_val)
        with own_state():
            return self._fit(
                X, y, sample_weight, X_err, groups=groups, validation_rows=held, resume=resume
            )

    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, X_err: Any = None
    ) -> SANConditionalDensityEstimator:
        """Learn from one batch of rows, in one pass at a constant rate.

        The first call sets scalers, labels and sizes from its rows, so that it should have
        thousands of them; later calls go on from the weights there are. The rate is a tenth of
        `learning_rate`. A density from `fit` is better where all rows are at hand.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.
        X_err : array-like of shape (n_samples, n_features), default=None
            Measurement errors of X, as in `fit`.

        Returns
        -------
        self : object
            The estimator. If anything fails, it is left as it was before.
        """
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None; use partial_fit for one batch after the other."
            )
        resume = hasattr(self, "network_")
        with own_state():
            return self._fit(X, y, sample_weight, X_err, resume=resume, increment=True)

    @property
    def part_shapes_(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of each part of X that goes through an encoder, by its name."""
        if not hasattr(self, "network_"):
            raise AttributeError("part_shapes_ is known after fit.")
        layout = Schema.of(self).layout
        return {} if layout is None else dict(layout.shapes)

    @property
    def engine_(self) -> str:
        """What evaluates the network: "compiled", or "torch: " and why."""
        if not hasattr(self, "network_"):
            raise AttributeError("engine_ is known after fit.")
        return engine_report(self.network_, validation.check_device(self.device))

    def predict_density(self, X: Any, *, X_err: Any = None, on_bad_rows: str = "raise") -> Any:
        """Conditional density of every row, as an object.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        X_err : array-like of shape (n_samples, n_features), default=None
            Measurement errors of X, one standard deviation each. With ``use_errors=True`` they
            are features. Otherwise the density is the mean of p(y | x') over x' around x, 64
            quasi-random points of it; that is for a model of x without noise, since one that was
            fitted with errors has averaged over them already.
        on_bad_rows : {"raise", "nan"}, default="raise"
            What becomes of rows of X that the estimator cannot take: nan or infinity in a feature
            that had none in `fit`, values too extreme to compute with, errors that are negative or
            infinite. "nan" answers them with nan, and counts them in one warning.

        Returns
        -------
        ConditionalDensity
            With `sample`, `log_prob`, `grad_log_prob`, `mean`, `std`, `cov`, `quantile`,
            `interval`, `mode`, `cdf`, `inverse_cdf`, `components`, `marginal`, `pdf_grid`, `given`,
            `marginalise`, `entropy`, `kl` and others; see `sklearn_san.density.Density`. With
            ``on_bad_rows="nan"`` and bad rows, an object with the same members.

        Warns
        -----
        BadRowsWarning
            If rows are answered with nan.
        """
        return self._density(X, X_err, on_bad_rows, keeps=True)

    def _density(
        self, X: Any, X_err: Any, on_bad_rows: str, y: Any = None, *, keeps: bool = False
    ) -> Any:
        """`predict_density`; rows of y that cannot be used count as bad ones, too.

        What `keeps` its rows has them for itself, whatever becomes of X.
        """
        check_is_fitted(self, "network_")
        validation.check_choice("on_bad_rows", on_bad_rows, ("raise", "nan"))
        tolerant, schema = on_bad_rows == "nan", Schema.of(self)
        found = read_inputs(self, X, schema, may_be_infinite=tolerant)
        index = found.index
        validation.warn_of_misaligned(index, X_err=X_err)
        features, wrong = (
            schema.encode_features(found.columns, found.parts, tolerant=tolerant),
            None,
        )
        if tolerant and X_err is not None:
            X_err, wrong = validation.usable_errors(X_err)
        errors = read_errors(self, schema, X_err, found.columns)
        plain = features[:, : len(schema.feature_names)]
        validation.warn_of_large_errors(plain, errors, schema.feature_names)
        validation.warn_of_range(self.input_encoder_, features)
        if keeps:
            features, errors = features.copy(), None if errors is None else errors.copy()
        density = ConditionalDensity(
            self._model(), self._with_features(features, found), errors, index
        )
        if not tolerant:
            return density
        unusable = self.input_encoder_.unusable(features, errors)
        bad = unusable.any(axis=1)
        for rows in (wrong, None if y is None else self._unusable_targets(y, len(features))):
            bad = bad if rows is None else bad | rows
        if not bad.any():
            return density
        self._warn_of_bad_rows(bad, unusable)
        return MaskedDensity(density[~bad], ~bad, index)

    def _with_features(self, columns: np.ndarray, found: Features) -> np.ndarray:
        """Columns and states of parts, and behind them the features that encoders give."""
        if not found.parts:
            return columns
        states = columns[:, -len(found.parts) :]
        device = validation.check_device(self.device)
        return np.concatenate(
            [columns, self.encoders_.features(found.parts, states, device)], axis=1
        )

    def _unusable_targets(self, y: Any, n_rows: int) -> np.ndarray | None:
        """Rows of y with a missing value before an observed one, or in the first output."""
        shape = np.shape(y)
        several = len(shape) == 3 or (self._one_dimensional and shape[1:] not in ((), (1,)))
        if several and not hasattr(y, "columns"):
            return None
        columns = matching_columns(
            without_mask(y), self.output_names_, "this estimator was fitted with"
        )
        if len(columns[0]) != n_rows:
            return None
        missing = np.stack([[is_missing(v) for v in columns[j].tolist()] for j in self.order_], 1)
        return has_gaps(missing) | missing[:, 0]

    def _warn_of_bad_rows(self, bad: np.ndarray, unusable: np.ndarray) -> None:
        names = Schema.of(self).column_names
        counts = {n: int(c) for n, c in zip(names, unusable.sum(axis=0), strict=True) if c}
        shown = ", ".join(f"{count} in {name!r}" for name, count in list(counts.items())[:5])
        features = f" (unusable values of X: {shown})" if shown else ""
        warn_caller(
            f"{bad.sum()} of {len(bad)} rows cannot be used and are answered with nan{features}.",
            BadRowsWarning,
        )

    def _model(self) -> FittedModel:
        """The network and all that surrounds it."""
        limits = self.limits_.copy()
        limits[self.order_, 0] = np.maximum(limits[self.order_, 0], self.y_scaler_.least())
        return FittedModel(
            self.network_,
            self.input_encoder_,
            self.y_scaler_,
            self.order_,
            limits,
            self.families_,
            self.codec_,
            self._one_dimensional,
            validation.check_device(self.device),
        )

    def novelty_score(self, X: Any, *, X_err: Any = None) -> np.ndarray:
        """P-value of each row for being like the rows of `fit`; small is novel.

        It is the share of held-out rows of `fit` that are at least as far from their nearest
        neighbours among others, in features as the network sees them. Of rows like those of `fit`
        a share of 0.01 has a p-value of 0.01 or below; none is below 0.001.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        X_err : array-like of shape (n_samples, n_features), default=None
            Measurement errors of X, which count with ``use_errors=True`` alone.

        Returns
        -------
        ndarray of shape (n_samples,)
            Between 0 and 1.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_san import SANConditionalDensityEstimator
        >>> from sklearn_san.datasets import make_bimodal
        >>> X, y, _ = make_bimodal(500, random_state=0)
        >>> est = SANConditionalDensityEstimator(K=3, epochs=1, random_state=0).fit(X, y)
        >>> bool((est.novelty_score(X) <= 0.05).mean() < 0.1)
        True
        >>> est.novelty_score(X[:1] + 1e6).round(2)
        array([0.])
        """
        check_is_fitted(self, "network_")
        if getattr(self, "novelty_", None) is None:
            raise NotFittedError(
                "This estimator knows no novelty_score, because it was fitted by an old version or "
                "merged from fits with encoders; fit it again."
            )
        schema = Schema.of(self)
        found = read_inputs(self, X, schema)
        errors = read_errors(self, schema, X_err, found.columns)
        features = self._with_features(schema.encode_features(found.columns, found.parts), found)
        return self.novelty_.score(self.input_encoder_.seen(features, errors))

    def log_prob(
        self,
        X: Any,
        y: Any,
        *,
        given: Any = None,
        X_err: Any = None,
        on_bad_rows: str = "raise",
    ) -> np.ndarray:
        """Log density of y given X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; a single row, such as ``x_o[None]`` of one observation, goes with every y.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        given : dict, default=None
            Known outputs, as for `sample`; then the density is that of all others.
        X_err : array-like of shape (n_samples, n_features), default=None
            Measurement errors of X, which are averaged over.
        on_bad_rows : {"raise", "nan"}, default="raise"
            What becomes of rows that cannot be used; see `predict_density`. Rows of y that lack
            values in other outputs than the last ones count among them.

        Returns
        -------
        ndarray of shape (n_samples,), as many as y has
            In nats, per unit of every output; -inf outside the limits.
        """
        density = self._density(X, X_err, on_bad_rows, y)
        return density.log_prob(y) if given is None else density.given(given).log_prob(y)

    def score(self, X: Any, y: Any, sample_weight: Any = None, X_err: Any = None) -> float:
        """Mean log-likelihood per row; larger is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.
        X_err : array-like of shape (n_samples, n_features), default=None
            Measurement errors of X, which are averaged over.

        Returns
        -------
        float
            In nats per row and the original units of y; the negative of the test NLL.
        """
        validation.warn_of_misaligned(validation.row_names(X), sample_weight=sample_weight)
        log_prob = self.log_prob(X, y, X_err=X_err)
        if not len(log_prob):
            raise ValueError("X has no rows, of which there is no mean.")
        return mean_of_rows(log_prob, sample_weight)

    def sample(
        self,
        X: Any,
        n_samples: int = 1,
        *,
        random_state: Any = None,
        X_err: Any = None,
        given: Any = None,
        return_ess: bool = False,
        method: str = "random",
        dtype: Any = None,
        as_frame: bool = False,
        out: Any = None,
        row_ids: Any = None,
        on_bad_rows: str = "raise",
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
        X_err : array-like of shape (n_samples, n_features), default=None
            Measurement errors of X; each draw is made for a measurement of its own.
        given : dict, default=None
            Known outputs, by column number or name: one value, or one for each row. Exact if
            they come first in `order`; otherwise draws are resampled by importance weights.
        return_ess : bool, default=False
            With `given`, whether to return the effective sample size of each row as well.
        method : {"random", "sobol"}, default="random"
            Independent draws, or quasi-random ones of less variance; see
            `ConditionalDensity.sample`.
        dtype : {float32, float64}, default=None
            Of the result; None is float64, or the dtype of `out`.
        as_frame : bool, default=False
            Whether to return a pandas frame with a row for each draw and y's column names.
        out : array-like of floats, default=None
            What the draws are written to, of the shape of the result: an array, or for more of
            them than fit in memory a memory map, a data set of HDF5 or zarr, or whatever else has
            a shape, a dtype and item assignment; may be float32. It is returned.
        row_ids : array-like of shape (n_samples,), default=None
            Name of each row, a whole number or text. The draws of a row then depend on its name
            and `random_state`, a whole number, alone: they are the same whatever rows are beside
            it, and independent of those of other rows in other calls. Without names, draws in
            parts of a table need a seed for each part, or rows at the same place share noise.
        on_bad_rows : {"raise", "nan"}, default="raise"
            What becomes of rows that cannot be used; see `predict_density`.

        Returns
        -------
        ndarray of shape (n_samples, n_draws, n_outputs), or DataFrame
            In the units of y, inside the limits; ``(n_samples, n_draws)`` if y was
            one-dimensional in `fit`. The dtype is object if some labels are no numbers. A frame
            has y's own dtype in each column and is indexed by row and draw.
        """
        density = self._density(X, X_err, on_bad_rows)
        validation.check_integer("n_samples", n_samples, 1)
        validation.check_boolean("as_frame", as_frame)
        validation.check_boolean("return_ess", return_ess)
        if return_ess and given is None:
            raise ValueError("return_ess=True goes with given=; plain draws all count fully.")
        if as_frame and (out is not None or dtype is not None or return_ess):
            raise ValueError(
                "as_frame=True has y's own dtypes and draws alone: it goes neither with out=, "
                "dtype= nor return_ess=."
            )
        options: dict[str, Any] = {
            "random_state": random_state,
            "method": method,
            "row_ids": row_ids,
        }
        options["progress"] = bool(self.verbose)
        known = density if given is None else density.given(given)
        if as_frame:
            return known.to_frame(n_samples, **options)
        if return_ess:
            options["return_ess"] = True
        return known.sample(n_samples, dtype=dtype, out=out, **options)

    def predict(
        self,
        X: Any,
        *,
        output_type: Any = "mean",
        quantiles: Any = (0.05, 0.5, 0.95),
        level: float = 0.9,
        n_samples: int = 1,
        random_state: Any = None,
        X_err: Any = None,
        row_ids: Any = None,
        on_bad_rows: str = "raise",
        as_frame: bool = False,
    ) -> Any:
        """Summarise p(y | x) for every row of X, by default by its mean.

        All summaries are deterministic. Those of one output are of the mean of its conditional
        densities over quasi-random draws of the outputs before it, 256 points that all rows share.
        The mode is climbed to from the densest of 128 draws or more.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        output_type : str or sequence of str, default="mean"
            "mean", "median", "std", "quantiles", "mode", "interval" or "samples"; or several of
            the first five, which are then computed together. All but mode and samples are those
            of the marginal distribution of each output; the mode is the point of highest joint
            density. An interval has equal probability below and above it.
        quantiles : float or sequence of float, default=(0.05, 0.5, 0.95)
            Levels for ``output_type="quantiles"``, strictly between 0 and 1.
        level : float, default=0.9
            Probability inside for ``output_type="interval"``, strictly between 0 and 1.
        n_samples : int, default=1
            Number of draws for ``output_type="samples"``.
        random_state : int, RandomState or None, default=None
            Seed of the draws for ``output_type="samples"``.
        X_err : array-like of shape (n_samples, n_features), default=None
            Measurement errors of X, which are averaged over.
        row_ids : array-like of shape (n_samples,), default=None
            Names of the rows for ``output_type="samples"``, as for `sample`.
        on_bad_rows : {"raise", "nan"}, default="raise"
            What becomes of rows that cannot be used; see `predict_density`.
        as_frame : bool, default=False
            Whether to return a pandas frame with the index of X: a column for each output under its
            name, or, for quantiles, intervals and several types, columns such as ``name_q05`` and
            ``name_mean``. Frames of draws are made by `sample`.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs), dict of str to these, or DataFrame
            In the units of y; ``(n_samples,)`` if y was one-dimensional in `fit`. Quantiles,
            draws and the two ends of intervals, ``(n_samples, 2, n_outputs)``, have their own axis
            after that of the rows. A sequence of types returns a dict.
        """
        validation.check_boolean("as_frame", as_frame)
        if as_frame:
            names = validation.names_of_summaries(output_type, quantiles, level)
            return (
                self._density(X, X_err, on_bad_rows)
                .summary(names)
                .rename(columns=self._plain_names(names))
            )
        if isinstance(output_type, (list, tuple)):
            validation.check_statistics("output_type", output_type)
            density = self._density(X, X_err, on_bad_rows)
            return density.summarise(output_type, quantiles=quantiles)
        validation.check_choice("output_type", output_type, validation.OUTPUT_TYPES)
        density = self._density(X, X_err, on_bad_rows)
        if output_type == "samples":
            validation.check_integer("n_samples", n_samples, 1)
            return density.sample(
                n_samples,
                random_state=random_state,
                row_ids=row_ids,
                progress=bool(self.verbose),
            )
        if output_type == "quantiles":
            return density.quantile(quantiles)
        if output_type == "interval":
            return density.interval(level)
        return getattr(density, output_type)()

    def _plain_names(self, summaries: list[str]) -> dict[str, str]:
        """Names of the columns of a single summary that go without it."""
        if len(summaries) > 1 or summaries[0].startswith("q"):
            return {}
        return {f"{name}_{summaries[0]}": name for name in self.output_names_}

    def describe(self) -> str:
        """What was fitted, as text: sizes, what "auto" became, how the training went, the engine.

        Returns
        -------
        str
            Some lines.

        Examples
        --------
        >>> from sklearn_san import SANConditionalDensityEstimator
        >>> from sklearn_san.datasets import make_bimodal
        >>> X, y, _ = make_bimodal(300, random_state=0)
        >>> est = SANConditionalDensityEstimator(
        ...     K=3, epochs=5, n_members=1, feature_encoding=None, tree_features=False
        ... )
        >>> print(est.fit(X, y).describe().splitlines()[1])
          features        1
        """
        check_is_fitted(self, "network_")
        return describe(self)

    def distill(
        self, X: Any, *, n_rows: int = 600_000, **parameters: Any
    ) -> SANConditionalDensityEstimator:
        """One network in place of the ensemble, fitted to draws of it [1]_.

        Log densities and cdfs of an ensemble take one evaluation of each member. One network with
        layers half as wide again takes those of two; draws and summaries, whose points come from
        one member each, take up to twice as long as before. It comes close to the ensemble if it
        sees many draws: for four members, nine outputs and 20,000 rows of X it lost 0.05 nats per
        row with 600,000 draws, and 0.2 with 200,000, no less than two of the members alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, such as those of `fit`; no targets are needed, so there may be more.
        n_rows : int, default=600_000
            Draws to learn from, each for a random row of X. The time of the fit goes with them.
        **parameters
            Parameters of the new network that are to differ from those of this estimator, such as
            `module_shape` or `random_state`. It has one member and 9 epochs if not told otherwise.

        Returns
        -------
        SANConditionalDensityEstimator
            Fitted, with scalers of its own; this one is not changed.

        Raises
        ------
        ValueError
            With ``use_errors=True``.

        References
        ----------
        .. [1] Hinton, Vinyals and Dean (2015), "Distilling the Knowledge in a Neural Network",
           arXiv:1503.02531.

        Examples
        --------
        >>> from sklearn_san import SANConditionalDensityEstimator
        >>> from sklearn_san.datasets import make_bimodal
        >>> X, y, _ = make_bimodal(300, random_state=0)
        >>> est = SANConditionalDensityEstimator(K=3, epochs=3, n_members=4, random_state=0)
        >>> est.fit(X, y).distill(X, n_rows=500).n_members_
        1
        """
        check_is_fitted(self, "network_")
        validation.check_integer("n_rows", n_rows, 100)
        if self.use_errors:
            raise ValueError(
                "distill needs use_errors=False: training would add measurement errors to X again."
            )
        shapes = {
            name: tuple(round(STUDENT_WIDTH * width) for width in getattr(self, name))
            for name in ("module_shape", "first_module_shape")
            if getattr(self, name) is not None
        }
        features = {  # those that the teacher chose
            "feature_encoding": self.input_encoder_.encoding and "piecewise_linear",
            "tree_features": self.input_encoder_.trees is not None,
            "synthetic_rows": 0,
        }
        student = clone(self).set_params(**{**STUDENT, **shapes, **features, **parameters})
        student.__dict__.update(_learned(self))
        random = check_random_state(student.random_state)
        layout = Schema.of(self).layout
        if layout is None:
            rows = resample(X, n_samples=n_rows, random_state=random)
        else:
            chosen = resample(np.arange(n_rows_of(X)), n_samples=n_rows, random_state=random)
            rows = take_rows(X, chosen, layout)
        y = self.sample(rows, random_state=random)[:, 0]
        with own_state():
            return student._fit(rows, y, None, None, schema=Schema.of(self))

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
    def load(cls, path: Any, *, encoder: Any = None) -> SANConditionalDensityEstimator:
        """Fitted model from a file that `save` wrote, on any machine.

        Densities, and draws with a seed, are those of the model that was saved, bit by bit on
        the same versions of all packages. Nothing in the file is executed.

        Parameters
        ----------
        path : str or path-like
            File.
        encoder : Module, callable, dict or sequence of these, default=None
            The parameter of that name with which the model was fitted, where it holds modules of
            your own, of which the file has the weights alone.

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
        ValueError
            If `encoder` is needed, or is not what the model was fitted with.
        """
        return load_estimator(cls, path, encoder)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        X_err: Any,
        *,
        groups: Any = None,
        validation_rows: Held | None = None,
        resume: bool = False,
        increment: bool = False,
        schema: Schema | None = None,
    ) -> SANConditionalDensityEstimator:
        """Fit; with `resume` from the weights of an earlier fit, with `increment` for one pass.

        `schema` is what is known of the table beforehand, without `resume`.

        All is done on a copy, which takes this estimator's place in one step at the end.
        """
        validation.check_parameters(self.get_params(deep=False))
        validation.warn_of_transformed_targets()
        device, generator = validation.check_device(self.device), make_generator(self.random_state)
        ranks = current_ranks()
        if ranks.size > 1 and effective_n_jobs(self.n_jobs) > 1:
            raise ValueError(
                f"The {ranks.size} ranks of a process group train the members together, which "
                f"needs n_jobs=None, got n_jobs={self.n_jobs}."
            )
        generator.manual_seed(ranks.first("the seed", generator.initial_seed()))
        draft = copy.copy(self)
        if resume and (self.encoder is None) != (Schema.of(self).layout is None):
            earlier = "without" if self.encoder is not None else "with"
            raise ValueError(
                f"The fit before was one {earlier} encoder, from which one with "
                f"encoder={self.encoder!r} cannot go on; set warm_start=False, or fit anew."
            )
        reader = Reader(draft, Schema.of(self) if resume else schema, ranks=ranks)
        seed = generator.initial_seed() % 2**32
        trials = partial(order_trials, draft, increment=increment)
        rows = as_rows(X, y, sample_weight, X_err, reader, seed, trials, groups, validation_rows)
        rows.ranks = ranks
        data = {"X": X, "y": y} if y is not None else {"X": rows.sample.X, "y": rows.sample.y}
        before = self._fitted() if resume else None
        if not increment and schema is None:
            is_worth = None if before is None else before.n_drawn > 0
            rows = with_drawn_rows(draft, reader.schema, rows, self._plain, seed, is_worth)
        self._check_alike(ranks, rows, before)
        checkpoint = self._checkpoint(generator, rows, before, increment=increment)
        draft.__dict__.update(reader.schema.attributes())

        def watch(n_epochs: int, so_far: Callable[[], Fitted]) -> FitMonitor | Silence:
            if ranks.rank:
                return Silence()

            def attributes() -> dict[str, Any]:
                fitted = so_far()
                network = copy.deepcopy(fitted.network).to("cpu").eval()
                current: dict[str, Any] = {"network_": network}
                if fitted.encoders is not None:
                    current["encoders_"] = copy.deepcopy(fitted.encoders).to("cpu").eval()
                return _learned(draft) | fitted.attributes() | current

            return FitMonitor(self, data, n_epochs, bool(self.verbose), attributes)

        fitted = fit_ensemble(
            draft, reader, rows, device, generator, watch,
            before=before, checkpoint=checkpoint, increment=increment,
        )  # fmt: skip
        draft.__dict__.update(fitted.attributes(), layout_=reader.schema.layout)
        draft.__dict__.pop("_increment_state", None)
        if increment:
            draft._follow(before, checkpoint)
        kept = {k: v for k, v in vars(self).items() if k.startswith(("_callback", "_skl"))}
        self.__dict__ = vars(draft) | kept
        if fitted.history.interrupted:  # whoever runs several fits is to stop as well
            raise KeyboardInterrupt
        return self

    def _plain(self, **parameters: Any) -> SANConditionalDensityEstimator:
        """An estimator without what is tried, for a model of the table."""
        return SANConditionalDensityEstimator(
            order=None, feature_encoding=None, tree_features=False, synthetic_rows=0,
            random_state=0, device=self.device, n_jobs=self.n_jobs, **parameters,
        )  # fmt: skip

    def _check_alike(self, ranks: Ranks, rows: Any, before: Fitted | None) -> None:
        """Raise if other ranks are about to fit something else."""
        if ranks.size > 1:
            plain = (bool, int, float, str)
            own = ("verbose", "checkpoint_dir", "device", "random_state")
            parameters = {
                name: value
                for name, value in self.get_params(deep=False).items()
                if isinstance(value, plain) and name not in own
            }
            weights = None if before is None else list(before.network.parameters())
            ranks.check_alike("rows", fingerprint(_data_of(rows)))
            ranks.check_alike("parameters", fingerprint([parameters, weights]))

    def _follow(self, before: Fitted | None, checkpoint: Any) -> None:
        """Append what one call of `partial_fit` did to what was before."""
        self._increment_state = checkpoint.state
        earlier = before.history.train if before else []
        self.loss_curve_: list[float] = [*earlier, *self.loss_curve_]
        self.n_iter_ = self.best_epoch_ = len(self.loss_curve_)

    def _fitted(self) -> Fitted:
        """What an earlier fit found."""
        return Fitted(
            self.network_,
            self.input_encoder_,
            self.y_scaler_,
            self.network_.n_members,
            self.epochs_,
            self.batch_size_,
            History(self.loss_curve_, self.validation_curve_),
            getattr(self, "novelty_", None),
            getattr(self, "encoders_", None),
            getattr(self, "n_synthetic_rows_", 0),
        )

    def _checkpoint(
        self, generator: Any, rows: Any, before: Fitted | None, *, increment: bool
    ) -> Any:
        """Where the state of the training is kept, if anywhere; seeds `generator` from it."""
        if increment:
            return MemoryCheckpoint(getattr(self, "_increment_state", None))
        if self.checkpoint_dir is None:
            return None
        if effective_n_jobs(self.n_jobs) > 1:
            raise ValueError(
                f"checkpoint_dir needs n_jobs=None, got n_jobs={self.n_jobs}: processes keep no "
                "checkpoints."
            )
        weights = None if before is None else list(before.network.parameters())
        parts = [self.get_params(deep=False), *_data_of(rows), weights]
        checkpoint = DiskCheckpoint(self.checkpoint_dir, fingerprint(parts), rows.ranks)
        if checkpoint.seed is None:
            checkpoint.seed = generator.initial_seed()
        generator.manual_seed(checkpoint.seed)
        return checkpoint


def _data_of(rows: Any) -> list[Any]:
    """What a training learns from, for a fingerprint."""
    X, y, weight, X_err, encoded = rows.sample
    keys = [part.keys() for part in encoded]
    return [X, y, weight, X_err, *keys, rows.n_rows, rows.groups]


def _learned(estimator: Any) -> dict[str, Any]:
    """What an estimator knows of its features and targets."""
    names = ("n_features_in_", "feature_names_in_")
    known = {name: vars(estimator)[name] for name in names if name in vars(estimator)}
    return known | Schema.of(estimator).attributes()
