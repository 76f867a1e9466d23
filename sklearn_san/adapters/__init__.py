"""The densities in the words of other packages, one file for each of these.

Nothing is imported here: each file imports its partner, which is an extra of this package.

=========  =================================================================================
`arviz`    `to_arviz`, draws as inference data
`dask`     `predict`, `sample`, `log_prob`, `pdf_grid` of arrays and frames on many workers
`getdist`  `to_getdist`, draws of one row with limits
`qp`       `to_qp`, p(z) or any output's density as an ensemble of qp, and in its files
`rail`     `SANInformer`, `SANEstimator`: stages of a RAIL pipeline, for redshifts
`sbi`      `SANPosterior`, a posterior for sbi's tools; `train_posterior`
`skpro`    `SANProbaRegressor`, a probabilistic regressor; `DensityDistribution`
`xarray`   `to_xarray`, draws with names, rows and units
=========  =================================================================================
"""
