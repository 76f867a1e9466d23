"""Stages for RAIL, the toolkit for photometric redshifts of the Rubin observatory [1]_.

=================  =====================================================================
`SANInformer`      magnitudes and redshifts of a training table to a fitted estimator
`SANEstimator`     a catalogue, chunk by chunk, to an ensemble of p(z) of `qp`
=================  =====================================================================

Files, chunks, MPI and shared parameters are those of RAIL's base classes. A magnitude that is nan
or `nondetect_val` is a band that was looked at in vain, which the network sees as a state and not
as a number; `nonobserved_val` is a missing value.

References
----------
.. [1] The RAIL team (2025), Redshift Assessment Infrastructure Layers, arXiv:2505.02928.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ceci.config import StageParameter
from rail.core.common_params import SHARED_PARAMS
from rail.core.enums import DistributionType
from rail.estimation.estimator import CatEstimator
from rail.estimation.informer import CatInformer

from .. import SANConditionalDensityEstimator
from .qp import to_qp

#: Training hides some bands, so that any may be missing later.
DEFAULTS: dict[str, Any] = {"nondetection": "inf", "missing_rate": 0.1}
_OF_BOTH = {
    name: SHARED_PARAMS
    for name in ("bands", "err_bands", "nondetect_val", "nonobserved_val", "redshift_col")
} | {"include_mag_err": StageParameter(bool, False, msg="whether errors are features, too")}


class SANInformer(CatInformer):
    """Fit a `SANConditionalDensityEstimator` to the magnitudes and redshifts of a table."""

    name = "SANInformer"
    entrypoint_function = "inform"
    interactive_function = "san_informer"
    config_options = CatInformer.config_options.copy()
    config_options.update(
        **_OF_BOTH,
        seed=StageParameter(int, 0, msg="random_state of the estimator"),
        weight_col=StageParameter(str, "", msg="column of weights of the rows; empty for none"),
        san=StageParameter(dict, {}, msg="parameters of SANConditionalDensityEstimator"),
    )

    def run(self) -> None:
        """Fit, and hand the estimator on as the model."""
        data = self.get_data("input")
        if self.config.hdf5_groupname:
            data = data[self.config.hdf5_groupname]
        weight = np.asarray(data[self.config.weight_col]) if self.config.weight_col else None
        parameters = DEFAULTS | {"random_state": self.config.seed} | dict(self.config.san)
        estimator = SANConditionalDensityEstimator(**parameters)
        z = np.asarray(data[self.config.redshift_col], dtype=np.float64)
        self.model = estimator.fit(_features(data, self.config), z, sample_weight=weight)
        self.add_data("model", self.model)


class SANEstimator(CatEstimator):
    """p(z) of a catalogue by the estimator that `SANInformer` fitted.

    Ensembles, and the point estimates beside each p(z), are those of `adapters.qp.to_qp`.
    """

    name = "SANEstimator"
    entrypoint_function = "estimate"
    interactive_function = "san_estimator"
    config_options = CatEstimator.config_options.copy()
    config_options.update(
        **_OF_BOTH,
        qp_representation=StageParameter(
            str, "interp", msg="interp (on the grid), quant (quantiles) or mixmod (Gaussians)"
        ),
        n_quantiles=StageParameter(int, 99, msg="number of quantiles, evenly spaced in (0, 1)"),
    )

    @classmethod
    def default_distribution_type(cls) -> DistributionType:
        """Posteriors, under the n(z) of the training rows."""
        return DistributionType.posterior

    def _process_chunk(self, start: int, end: int, data: Any, first: bool) -> None:
        config = self.config
        ensemble = to_qp(
            self.model.predict_density(_features(data, config)),
            representation=config.qp_representation,
            grid=np.linspace(config.zmin, config.zmax, config.nzbins),
            n_quantiles=config.n_quantiles,
        )
        self._do_chunk_output(ensemble, start, end, first, data=data)


def _features(data: Any, config: Any) -> np.ndarray:
    """Magnitudes, infinite if undetected and nan if not observed, and the logs of their errors."""
    magnitudes = _columns(data, config.bands)
    undetected = np.isnan(magnitudes) | np.isclose(magnitudes, config.nondetect_val)
    not_observed = np.isclose(magnitudes, config.nonobserved_val)
    parts = [magnitudes]
    if config.include_mag_err:
        errors = _columns(data, config.err_bands)
        parts.append(np.log(errors, out=np.full_like(errors, np.nan), where=errors > 0))
    known = [np.where(not_observed, np.nan, np.where(undetected, np.inf, one)) for one in parts]
    return np.concatenate(known, axis=1)


def _columns(data: Any, names: list[str]) -> np.ndarray:
    """Columns of a table, (n_rows, n_columns)."""
    return np.stack([np.asarray(data[name], dtype=np.float64) for name in names], axis=1)
