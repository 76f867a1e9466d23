# Each target creates the environment first if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Files whose public docstrings are checked
DOCUMENTED := $(addprefix sklearn_san/, _conditioning.py _density_base.py _draws.py _estimator.py \
	_marginals.py _merging.py _reweighting.py _rows.py chains.py datasets/__init__.py \
	datasets/measurements.py density.py) \
	$(addprefix sklearn_san/adapters/, arviz.py dask.py getdist.py qp.py rail.py sbi.py skpro.py xarray.py) \
	$(addprefix sklearn_san/calibration/, coverage.py diagnostic.py effects.py hpd.py local.py ranks.py \
	recalibrated.py recalibrator.py report.py rosenblatt.py tarp.py) \
	$(addprefix sklearn_san/cli/, __init__.py tables.py) \
	$(addprefix sklearn_san/encoders/, base.py convolutions.py plain.py sets.py) \
	$(addprefix sklearn_san/metrics/, densities.py draws.py intervals.py scorers.py) \
	$(addprefix sklearn_san/photoz/, displays.py pdfs.py points.py populations.py scores.py weights.py) \
	$(addprefix sklearn_san/plotting/, calibration.py chain.py corner.py coverage.py marginal.py predictive.py recovery.py \
	training.py uniformity.py) \
	$(addprefix sklearn_san/simulation/, fitting.py observations.py posterior.py priors.py rounds.py \
	simulations.py)
BENCH_STAMP := $(VENV)/.installed-bench

# Packages that users have beside this one are tested in an environment of their own: some of them hold
# others back.
CLIENTS := .venv-clients
CLIENTS_STAMP := $(CLIENTS)/.installed
RAIL := .venv-rail
RAIL_STAMP := $(RAIL)/.installed

# The oldest versions that are supported, which have wheels for Python 3.10 to 3.12. Of torch it is the one that
# is tested otherwise: older builds for CPUs alone are not in the usual index. TORCH=2.4.0 takes another.
OLDEST := .venv-oldest
OLDEST_STAMP := $(OLDEST)/.installed
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: demo demo-quick dist test test-oldest test-quick test-clients test-portable test-portable-short test-site test-slow lint docs \
	bench bench-speed clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	touch $@

demo: $(STAMP)
	$(BIN)/python examples/plot_galaxy_parameters.py

demo-quick: $(STAMP)
	$(BIN)/python examples/plot_galaxy_parameters.py --quick

# Wheel and source distribution in dist/, looked through, installed elsewhere and tried
dist: $(STAMP)
	$(BIN)/python tests/distributions.py

# One thread for each of two processes: most tests have work for one only.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations=10

$(CLIENTS_STAMP): pyproject.toml constraints-clients.txt
	test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --constraint constraints-clients.txt --editable ".[clients]"
	touch $@

$(RAIL_STAMP): pyproject.toml constraints.txt
	test -x $(RAIL)/bin/python || $(PYTHON) -m venv $(RAIL)
	$(RAIL)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[rail,test]"
	touch $@

# One short line for each partner; all that a test says if it fails.
test-clients: $(CLIENTS_STAMP) $(RAIL_STAMP)
	@failed=0; for file in tests/test_adapters*.py; do \
	  case $$file in *_rail.py) home=$(RAIL);; *) home=$(CLIENTS);; esac; \
	  said=$$(OMP_NUM_THREADS=1 $$home/bin/python -m pytest -q -n 0 --tb=short $$file 2>&1) || \
	    { failed=1; echo "$$said"; }; \
	  echo "$$(basename $$file .py): $$(echo "$$said" | tail -1)"; \
	done; exit $$failed

# The numerical tests as on other kinds of CPU: one with AVX2 alone, and a generic one. The short
# form is part of continuous integration.
NUMERICAL := $(addprefix tests/test_, compiled_jit.py compiled_mixtures.py compiled_network.py \
	compiled_products.py \
	compiled_interval.py compiled_slopes.py modes.py network.py truncated_normal.py likelihoods.py density.py \
	density_protocol.py estimator.py rows.py saving.py golden.py training.py readme.py docs.py)
SHORT := $(addprefix tests/test_, compiled_mixtures.py compiled_network.py compiled_products.py \
	readme.py)

test-portable: $(STAMP)
	$(BIN)/python tests/portable.py $(NUMERICAL) --doctest-modules sklearn_san

test-portable-short: $(STAMP)
	$(BIN)/python tests/portable.py $(SHORT)

# For a first look at a change; what the rest of the tests is for takes minutes.
QUICK := $(addprefix tests/test_, docs.py likelihoods.py network.py package.py scaling.py training.py \
	truncated_normal.py validation.py)

test-quick: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal $(QUICK)

$(OLDEST_STAMP): pyproject.toml tests/oldest.py
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python tests/oldest.py torch==$(TORCH) > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --only-binary ":all:" --constraint $(OLDEST)/constraints.txt \
	  --editable ".[test]"
	touch $@

test-oldest: $(OLDEST_STAMP)
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -q -n 2 --dist worksteal $(QUICK) tests/test_compiled_jit.py \
	  tests/test_posterior.py

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m numpydoc.hooks.validate_docstrings $(DOCUMENTED)

# Runs the examples, which takes minutes; then what a reader with or without a network would see.
docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	$(MAKE) test-site

# Of the site that is there. Pictures of its pages: make test-site SAN_SITE_PICTURES=folder
test-site: $(STAMP)
	$(BIN)/python -m pytest -q -rs tests/test_site.py

bench: $(BENCH_STAMP)
	$(BIN)/python benchmarks/accuracy.py

bench-speed: $(BENCH_STAMP)
	$(BIN)/python benchmarks/speed.py --outputs 2 9 30 --peers

clean:
	rm -rf $(VENV) $(CLIENTS) $(OLDEST) $(RAIL) build dist docs/_build docs/auto_examples docs/api/generated docs/api/backreferences examples/output
