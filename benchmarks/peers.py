"""The models of the benchmarks: ours, and the peers at settings that give them their best.

Every model has ``fit(X, y)`` and ``sample(X, n, random_state)``, and ``log_prob(X, y)`` if it has a
density, in the units of y. Packages are imported by the models that need them. What the peers get:

- Flows (zuko): masked autoregressive layers of width 128, features and targets standardised, AdamW
  at 1e-3 with a cosine schedule, weight decay 1e-4, batches of 256, gradients clipped at norm 5, a
  tenth of the rows for validation, up to 150 epochs, stopping after 20 without improvement, best
  weights kept. ``nsf`` has 3 transforms of 8 bins and two hidden layers, ``maf`` 5 transforms. The
  names with ``-logit`` map outputs with two limits to the whole line by a logit first and count its
  Jacobian; values on a limit are moved inside by a millionth of the range.
- ``npe`` is sbi's neural posterior estimation with its default flow and training.
- ``ngboost`` (one output): Gaussian, learning rate 0.03, up to 2,000 trees, a tenth of the rows for
  stopping after 50 without improvement.
- ``catboost`` (one output): CatBoost's Gaussian, loss RMSEWithUncertainty, up to 2,000 trees at its
  own learning rate, a tenth of the rows for stopping after 50 without improvement.
- ``quantile-forest`` (one output): 500 trees with leaves of at least five rows; draws are its
  quantiles at equal steps of probability. No density.
- ``treeffuser``: a diffusion of boosted trees at its defaults. Draws, no density. Version 0.2 asks
  for older numpy and lightgbm than this package and its scikit-learn run with: install it with
  ``pip install --no-deps`` next to lightgbm 4.6 or later, einops, jaxtyping and ml_collections.
- ``linear-gaussian``: least squares with a Gaussian residual of full covariance.

TabPFN, a transformer that comes trained, is not here: its weights are no part of its package and
are fetched when it is used, which the benchmarks do not do.
"""

from __future__ import annotations

import copy
import importlib.util
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measuring import temporary_folder
from scipy.stats import norm
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler
from tasks import Task

from sklearn_san import SANConditionalDensityEstimator


class LinearGaussian:
    """Linear regression with a Gaussian residual of full covariance."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> LinearGaussian:
        self.line = LinearRegression().fit(X, y)
        residual = y - self.line.predict(X)
        self.covariance = np.atleast_2d(residual.T @ residual / max(len(y) - X.shape[1] - 1, 1))
        return self

    def log_prob(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        factor = np.linalg.cholesky(self.covariance)
        white = np.linalg.solve(factor, (y - self.line.predict(X)).T)
        return norm.logpdf(white).sum(0) - np.log(np.diag(factor)).sum()

    def sample(self, X: np.ndarray, n: int, random_state: int) -> np.ndarray:
        random = np.random.default_rng(random_state)
        noise = random.standard_normal((len(X), n, len(self.covariance)))
        return self.line.predict(X)[:, None] + noise @ np.linalg.cholesky(self.covariance).T


class Flow:
    """A zuko flow, standardised, with early stopping."""

    def __init__(self, kind: str, limits: np.ndarray | None, seed: int, budget: float):
        self.kind, self.limits, self.seed, self.budget = kind, limits, seed, budget

    def fit(self, X: np.ndarray, y: np.ndarray) -> Flow:
        import zuko

        torch.manual_seed(self.seed)
        start = time.perf_counter()
        u, _ = self._free(y)
        self.x_scaler, self.y_scaler = StandardScaler().fit(X), StandardScaler().fit(u)
        data = [self._tensor(self.x_scaler.transform(X)), self._tensor(self.y_scaler.transform(u))]
        order = torch.randperm(len(X))
        n_validation = max(1, len(X) // 10)
        validation = [column[order[:n_validation]] for column in data]
        rows = [column[order[n_validation:]] for column in data]
        make = zuko.flows.NSF if self.kind == "nsf" else zuko.flows.MAF
        self.flow = make(
            y.shape[1],
            X.shape[1],
            transforms=3 if self.kind == "nsf" else 5,
            hidden_features=(128, 128),
        )
        epochs, batch = 150, 256
        optimizer = torch.optim.AdamW(self.flow.parameters(), lr=1e-3, weight_decay=1e-4)
        steps = epochs * math.ceil(len(rows[0]) / batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        best, best_epoch, weights = math.inf, 0, copy.deepcopy(self.flow.state_dict())
        for epoch in range(epochs):
            for chosen in torch.randperm(len(rows[0])).split(batch):
                optimizer.zero_grad()
                loss = -self.flow(rows[0][chosen]).log_prob(rows[1][chosen]).mean()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.flow.parameters(), 5.0)
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                loss = -self.flow(validation[0]).log_prob(validation[1]).mean().item()
            if loss < best:
                best, best_epoch, weights = loss, epoch, copy.deepcopy(self.flow.state_dict())
            if epoch - best_epoch >= 20 or time.perf_counter() - start > self.budget:
                break
        self.flow.load_state_dict(weights)
        return self

    @torch.no_grad()
    def log_prob(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        u, jacobian = self._free(y)
        context = self._tensor(self.x_scaler.transform(X))
        z = self._tensor(self.y_scaler.transform(u))
        log_prob = self.flow(context).log_prob(z).double().numpy()
        return log_prob + jacobian - np.log(self.y_scaler.scale_).sum()

    @torch.no_grad()
    def sample(self, X: np.ndarray, n: int, random_state: int) -> np.ndarray:
        torch.manual_seed(random_state)
        context = self._tensor(self.x_scaler.transform(X))
        z = self.flow(context).sample((n,)).double().numpy().swapaxes(0, 1)
        shape = z.shape
        u = self.y_scaler.inverse_transform(z.reshape(-1, shape[-1])).reshape(shape)
        if self.limits is None:
            return u
        low, high = self.limits.T
        return low + (high - low) / (1.0 + np.exp(-u))

    def _free(self, y: np.ndarray) -> tuple[np.ndarray, Any]:
        """Targets on the whole line, and the log-Jacobian."""
        if self.limits is None:
            return y, 0.0
        low, high = self.limits.T
        t = np.clip((y - low) / (high - low), 1e-6, 1.0 - 1e-6)
        jacobian = -(np.log(t) + np.log1p(-t) + np.log(high - low)).sum(1)
        return np.log(t) - np.log1p(-t), jacobian

    @staticmethod
    def _tensor(array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, dtype=torch.float32)


class NeuralPosterior:
    """sbi's NPE at its defaults."""

    def __init__(self, seed: int, budget: float):
        self.seed, self.budget = seed, budget

    def fit(self, X: np.ndarray, y: np.ndarray) -> NeuralPosterior:
        from sbi.inference import NPE

        torch.manual_seed(self.seed)
        inference = NPE(show_progress_bars=False)
        x, theta = torch.as_tensor(X).float(), torch.as_tensor(y).float()
        with temporary_folder():  # where the logs of training go
            self.density = inference.append_simulations(theta, x).train()
        return self

    @torch.no_grad()
    def log_prob(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        theta = torch.as_tensor(y).float().unsqueeze(0)
        return self.density.log_prob(theta, torch.as_tensor(X).float())[0].double().numpy()

    @torch.no_grad()
    def sample(self, X: np.ndarray, n: int, random_state: int) -> np.ndarray:
        torch.manual_seed(random_state)
        draws = self.density.sample((n,), torch.as_tensor(X).float())
        return draws.double().numpy().swapaxes(0, 1)


class NaturalGradientBoosting:
    """NGBoost with a Gaussian; one output."""

    def __init__(self, seed: int):
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> NaturalGradientBoosting:
        from ngboost import NGBRegressor

        held_out, rows = held_out_and_rows(len(X), self.seed)
        self.model = NGBRegressor(
            n_estimators=2000, learning_rate=0.03, verbose=False, random_state=self.seed
        )
        self.model.fit(X[rows], y[rows, 0], X[held_out], y[held_out, 0], early_stopping_rounds=50)
        return self

    def log_prob(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._gaussian(X).logpdf(y[:, 0])

    def sample(self, X: np.ndarray, n: int, random_state: int) -> np.ndarray:
        shape = (n, len(X))
        return self._gaussian(X).rvs(shape, random_state=random_state).T[..., None]

    def _gaussian(self, X: np.ndarray) -> Any:
        parameters = self.model.pred_dist(X, max_iter=self.model.best_val_loss_itr).params
        return norm(parameters["loc"], parameters["scale"])


class BoostedGaussian:
    """CatBoost with a Gaussian; one output."""

    def __init__(self, seed: int):
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> BoostedGaussian:
        from catboost import CatBoostRegressor

        held_out, rows = held_out_and_rows(len(X), self.seed)
        self.model = CatBoostRegressor(
            loss_function="RMSEWithUncertainty",
            iterations=2000,
            early_stopping_rounds=50,
            random_seed=self.seed,
            allow_writing_files=False,
            verbose=False,
        )
        self.model.fit(X[rows], y[rows, 0], eval_set=(X[held_out], y[held_out, 0]))
        return self

    def log_prob(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._gaussian(X).logpdf(y[:, 0])

    def sample(self, X: np.ndarray, n: int, random_state: int) -> np.ndarray:
        return self._gaussian(X).rvs((n, len(X)), random_state=random_state).T[..., None]

    def _gaussian(self, X: np.ndarray) -> Any:
        mean, variance = self.model.predict(X, prediction_type="RMSEWithUncertainty").T
        return norm(mean, np.sqrt(variance))


class QuantileForest:
    """Quantiles of the training rows that share leaves with a row; one output."""

    def __init__(self, seed: int):
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> QuantileForest:
        from quantile_forest import RandomForestQuantileRegressor

        self.model = RandomForestQuantileRegressor(
            n_estimators=500, min_samples_leaf=5, random_state=self.seed
        )
        self.model.fit(X, y[:, 0])
        return self

    def sample(self, X: np.ndarray, n: int, random_state: int) -> np.ndarray:
        levels = (np.arange(n) + 0.5) / n
        quantiles = self.model.predict(X, quantiles=list(levels)).reshape(len(X), n)
        return np.random.default_rng(random_state).permuted(quantiles, axis=1)[..., None]


class TreeDiffusion:
    """Treeffuser at its defaults."""

    def __init__(self, seed: int):
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> TreeDiffusion:
        from treeffuser import Treeffuser

        self.model = Treeffuser(seed=self.seed).fit(X, y)
        return self

    def sample(self, X: np.ndarray, n: int, random_state: int) -> np.ndarray:
        draws = self.model.sample(X, n_samples=n, seed=random_state)
        return draws.reshape(n, len(X), -1).swapaxes(0, 1)


def held_out_and_rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A tenth of the rows to stop by, and the others."""
    order = np.random.default_rng(seed).permutation(n)
    return order[: n // 10], order[n // 10 :]


def make_model(name: str, task: Task, seed: int, budget: float, changes: dict) -> Any:
    """The named model for a task; `changes` are parameters of ours."""
    limits = task.limits
    changes = dict(task.parameters) | changes
    if name == "san":
        return SANConditionalDensityEstimator(limits=limits, random_state=seed, **changes)
    if name == "san-quick":
        return SANConditionalDensityEstimator(
            limits=limits, random_state=seed, **{"n_members": 1, "epochs": 20} | changes
        )
    if name == "linear-gaussian":
        return LinearGaussian()
    if name == "npe":
        warnings.simplefilter("ignore")
        return NeuralPosterior(seed, budget)
    if name in OTHERS:
        return OTHERS[name](seed)
    kind, _, transform = name.partition("-")
    return Flow(kind, limits if transform else None, seed, budget)


def applies(name: str, task: Task) -> bool:
    """Whether a model can be fitted to a task, and is not the same as another one there."""
    if name.endswith("-logit"):
        return task.limits is not None and bool(np.isfinite(task.limits).all())
    return name not in ONE_OUTPUT or task.y.shape[1] == 1


def installed(name: str) -> bool:
    """Whether the package that a model needs is there."""
    package = PACKAGES.get(name.partition("-")[0])
    return package is None or importlib.util.find_spec(package) is not None


OTHERS: dict[str, Callable[[int], Any]] = {
    "ngboost": NaturalGradientBoosting,
    "catboost": BoostedGaussian,
    "quantile-forest": QuantileForest,
    "treeffuser": TreeDiffusion,
}
ONE_OUTPUT = ("ngboost", "catboost", "quantile-forest")
#: By the first part of a model's name.
PACKAGES = {
    "nsf": "zuko",
    "maf": "zuko",
    "npe": "sbi",
    "ngboost": "ngboost",
    "catboost": "catboost",
    "quantile": "quantile_forest",
    "treeffuser": "treeffuser",
}
MODELS: tuple[str, ...] = (
    "san",
    "san-quick",
    "nsf",
    "nsf-logit",
    "maf",
    "maf-logit",
    "npe",
    *OTHERS,
    "linear-gaussian",
)
