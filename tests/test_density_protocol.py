"""Every member on every kind of density: shapes, consistency, rows, one-dimensional y."""

import inspect

import numpy as np
import pytest
from conftest import small
from scipy.special import logsumexp
from scipy.stats import norm, t
from sklearn.frozen import FrozenEstimator

from sklearn_san import CalibratedDensity
from sklearn_san.density import Density

N = 3
KINDS = (
    "plain", "reordered", "errors", "given", "given later", "reweighted", "recalibrated",
    "one dimension", "one dimension recalibrated", "one dimension reweighted", "one row",
    "given reweighted", "recalibrated reweighted",
)  # fmt: skip
#: Members that a kind of density has no answer for, and what the error says.
REFUSED = {
    "given later": dict.fromkeys(
        ["cdf", "inverse_cdf", "components"], "y0 would have to come first in `order`"
    ),
    "reweighted": {
        "cdf": "the ratio ties the outputs together",
        "inverse_cdf": "the ratio ties the outputs together",
        "grad_log_prob": "a function of which no gradient is known",
        "components": "times a ratio is no mixture",
    },
    "recalibrated": {
        "components": "a recalibrated mixture is no mixture",
        "given": "use that of its `base`",
    },
}
REFUSED["one dimension recalibrated"] = REFUSED["recalibrated"]
REFUSED["one dimension reweighted"] = REFUSED["given reweighted"] = REFUSED["reweighted"]
REFUSED["recalibrated reweighted"] = REFUSED["reweighted"] | {"given": "use that of its `base`"}


def ratio(y):
    return np.exp(-0.1 * np.square(y).reshape(len(y), -1).sum(axis=1))


@pytest.fixture(scope="module")
def densities(bimodal):
    """One density of each kind, and the values of y that go with its rows."""
    X, y, _ = bimodal
    limits = [[-4.0, 4.0], [-np.inf, np.inf]]
    options = {"n_members": 2, "epochs": 8, "dtype": "float64"}
    est = small(**options, limits=limits).fit(X, y)
    last_first = small(**options, limits=limits, order=[1, 0]).fit(X, y)
    single = small(**options).fit(X, y[:, 0])
    wrong = X[:200] * 1.3  # so that there is something to mend
    mended = CalibratedDensity(FrozenEstimator(est)).fit(wrong, y[:200])
    mended_single = CalibratedDensity(FrozenEstimator(single)).fit(wrong, y[:200, 0])
    rows, y_rows = X[:N], y[:N]
    plain = est.predict_density(rows)
    found = {
        "plain": plain,
        "reordered": last_first.predict_density(rows),
        "errors": est.predict_density(rows, X_err=np.full(rows.shape, 0.2)),
        "given": plain.given({0: y_rows[:, 0]}),
        "given later": last_first.predict_density(rows).given({0: y_rows[:, 0]}),
        "reweighted": plain.marginalise(ratio),
        "recalibrated": mended.predict_density(rows),
        "one dimension": single.predict_density(rows),
        "one dimension recalibrated": mended_single.predict_density(rows),
        "one dimension reweighted": single.predict_density(rows).marginalise(ratio),
        "one row": est.predict_density(rows[:1]),
        "given reweighted": plain.marginalise(ratio).given({0: y_rows[:, 0]}),
        "recalibrated reweighted": mended.predict_density(rows[:1]).marginalise(ratio),
    }
    assert set(found) == set(KINDS)
    values = {kind: y_rows[:, 0] if kind.startswith("one dim") else y_rows for kind in KINDS}
    values["one row"] = values["recalibrated reweighted"] = y_rows[:1]
    return {kind: (found[kind], values[kind]) for kind in KINDS}


def answers(density, member, kind):
    """Whether the density has this member; if not, it must say why."""
    return member not in REFUSED.get(kind, {})


def free(density):
    """An output that is not known."""
    inner = density
    while not hasattr(inner, "known") and hasattr(inner, "density"):
        inner = inner.density
    return 1 if hasattr(inner, "known") else 0


def calls(density, y):
    """Every member with arguments, and the shape of its result."""
    n, axes = len(density), (density.n_outputs,) if y.ndim == 2 else ()
    j, u = free(density), np.full(y.shape, 0.3)
    several = np.repeat(y[:, None], 3, axis=1)
    values, levels = np.zeros((n, 4)), np.tile([0.2, 0.7], (n, 1))
    return {
        "log_prob": (lambda d: d.log_prob(several), (n, 3)),
        "grad_log_prob": (lambda d: d.grad_log_prob(y), y.shape),
        "cdf": (lambda d: d.cdf(y), y.shape),
        "inverse_cdf": (lambda d: d.inverse_cdf(u), y.shape),
        "sample": (lambda d: d.sample(6, random_state=0), (n, 6, *axes)),
        "to_frame": (lambda d: d.to_frame(6, random_state=0), (6 * n, density.n_outputs)),
        "mean": (lambda d: d.mean(), y.shape),
        "std": (lambda d: d.std(), y.shape),
        "cov": (lambda d: d.cov(), (n, *axes, *axes)),
        "quantile": (lambda d: d.quantile([0.1, 0.2, 0.7]), (n, 3, *axes)),
        "median": (lambda d: d.median(), y.shape),
        "interval": (lambda d: d.interval(0.8), (n, 2, *axes)),
        "mode": (lambda d: d.mode(), y.shape),
        "summarise": (lambda d: d.summarise(["quantiles"], quantiles=0.3)["quantiles"][:, 0],
                      y.shape),
        "summary": (lambda d: d.summary(["mean", "q16"]), (n, 2 * density.n_outputs)),
        "entropy": (lambda d: d.entropy(), (n,)),
        "kl": (lambda d: d.kl(d), (n,)),
        "marginal": (lambda d: d.marginal(j, n_points=30).density, (n, 30)),
        "pdf_grid": (lambda d: d.pdf_grid(j, np.linspace(-3, 3, 7)), (n, 7)),
        "marginal_log_prob": (lambda d: d.marginal_log_prob(j, values), (n, 4)),
        "marginal_cdf": (lambda d: d.marginal_cdf(j, values[:, 0]), (n,)),
        "marginal_inverse_cdf": (lambda d: d.marginal_inverse_cdf(j, levels), (n, 2)),
        "highest_density_interval": (lambda d: d.highest_density_interval(j, n_draws=32)[:, 0],
                                     (n, 2)),
        "n_modes": (lambda d: d.n_modes(j, n_draws=32), (n,)),
        "mass_near_mode": (lambda d: d.mass_near_mode(j, 0.5, n_draws=32), (n,)),
        "components": (lambda d: d.components().weight, None),
        "given": (lambda d: d.given({0: 0.0}), None),
        "marginalise": (lambda d: d.marginalise(ratio).mean(), y.shape),
    }  # fmt: skip


def test_no_member_is_left_out(densities):
    members = {
        name
        for name, value in vars(Density).items()
        if not name.startswith("_") and inspect.isfunction(value)
    }
    assert members == set(calls(*densities["plain"]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_member_answers_or_says_why(densities, kind):
    density, y = densities[kind]
    assert isinstance(density, Density)
    assert density.limits.shape == (density.n_outputs, 2)
    assert density.one_dimensional == (y.ndim == 1)
    assert density.is_continuous
    for member, (call, shape) in calls(density, y).items():
        if (member == "given" and (y.ndim == 1 or "given" in kind)) or (
            member == "components" and "errors" in kind
        ):
            continue  # nothing would be left
        if not answers(density, member, kind):
            with pytest.raises(NotImplementedError, match=REFUSED[kind][member]):
                call(density)
            continue
        result = call(density)
        if shape is not None:
            assert np.shape(result) == shape, member
            assert np.isfinite(np.asarray(result, dtype=float)).all(), member


# Of one row those two are, which has none beside it
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"one row", "recalibrated reweighted"}))
def test_rows_do_not_depend_on_their_neighbours(densities, kind):
    density, y = densities[kind]
    i = len(density) - 1
    one = density[i]
    assert len(one) == 1
    of_all, of_one = calls(density, y), calls(one, y[[i]])
    random = {"sample", "to_frame", "cdf", "components", "given", "marginalise"}
    for member in of_all.keys() - random - REFUSED.get(kind, {}).keys():
        result = np.asarray(of_all[member][0](density))[[i]]
        if member == "marginal":  # whose grid covers all rows
            grid = density.marginal(free(density), n_points=30).grid
            np.testing.assert_allclose(
                one.pdf_grid(free(density), grid), result, rtol=1e-6, atol=1e-9
            )
            continue
        np.testing.assert_allclose(of_one[member][0](one), result, rtol=1e-6, atol=1e-7)
    first = density[:1].sample(6, random_state=0)
    np.testing.assert_allclose(first, density.sample(6, random_state=0)[:1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS[:-1])  # the last would take half a minute
def test_densities_and_draws_agree(densities, kind):
    density, _ = densities[kind]
    j, n = free(density), len(density)
    grid = np.linspace(-7.0, 7.0, 561) if density.limits[j, 0] < -7 else np.linspace(-4, 4, 321)
    pdf = density.pdf_grid(j, grid)
    np.testing.assert_allclose(np.trapezoid(pdf, grid), 1.0, atol=0.03)
    np.testing.assert_allclose(density.marginal(j, grid=grid).density, pdf)
    some = np.broadcast_to(grid[60:-60:40], (n, len(grid[60:-60:40])))
    at = np.exp(density.marginal_log_prob(j, some))
    # Grids are in single precision, of which exponents in the tails take three digits
    np.testing.assert_allclose(at, pdf[:, 60:-60:40], rtol=1e-4, atol=1e-9)
    cdf = density.marginal_cdf(j, some)
    steps = 0.5 * (pdf[:, 1:] + pdf[:, :-1]) * np.diff(grid)
    summed = np.concatenate([np.zeros((n, 1)), steps.cumsum(axis=1)], axis=1)
    np.testing.assert_allclose(cdf, summed[:, 60:-60:40], atol=0.03)
    # 4,000 draws: five standard errors of a mean, and of a share
    draws = density.sample(4000, random_state=0).reshape(n, 4000, -1)
    spread = 5 * draws.std(axis=1) / np.sqrt(4000 if "given later" not in kind else 1000)
    mean = density.mean().reshape(n, -1)
    assert (np.abs(draws.mean(axis=1) - mean) <= spread + 0.02).all()
    median = density.median().reshape(n, -1)
    below = (draws <= median[:, None]).mean(axis=1)[:, j]
    np.testing.assert_allclose(below, 0.5, atol=0.04 if "given later" not in kind else 0.08)
    best = density.log_prob(density.mode())
    assert (best >= density.log_prob(density.sample(50, random_state=1)).max(axis=1) - 0.1).all()
    expected = -density.log_prob(density.sample(4000, random_state=2)).mean(axis=1)
    np.testing.assert_allclose(density.entropy(), expected, atol=0.12)
    np.testing.assert_allclose(density.kl(density), 0.0, atol=1e-9)


def test_marginal_cdf_and_its_inverse(densities):
    for kind in ("plain", "given later", "reweighted"):
        density, _ = densities[kind]
        j, n = free(density), len(density)
        # More levels than there are quantiles to look between, and as many
        for n_levels in (3, 40):
            u = np.random.default_rng(0).uniform(0.02, 0.98, (n, n_levels))
            values = density.marginal_inverse_cdf(j, u)
            error = 1e-6 if kind == "plain" else 0.02  # steps of weighted draws
            np.testing.assert_allclose(density.marginal_cdf(j, values), u, atol=error)
        shared = density.marginal_inverse_cdf(j, np.full(n, 0.3))
        np.testing.assert_allclose(shared, density.quantile([0.3])[..., j][:, 0])
        with pytest.raises(ValueError, match="u must lie strictly between 0 and 1, got 1"):
            density.marginal_inverse_cdf(j, np.ones(n))


@pytest.mark.parametrize("kind", KINDS)
def test_cdf_and_its_inverse(densities, kind):
    if "cdf" in REFUSED.get(kind, {}):
        return
    density, y = densities[kind]
    u = np.random.default_rng(0).uniform(0.05, 0.95, size=y.shape)
    back = density.cdf(density.inverse_cdf(u))
    j = free(density)
    np.testing.assert_allclose(back[..., j:], u[..., j:], atol=1e-8)
    draws = density.sample(64, method="sobol", random_state=0)
    again = density.sample(64, method="sobol", random_state=0, dtype="float32")
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, draws, rtol=1e-6)
    np.testing.assert_allclose(draws.mean(axis=1), density.mean(), atol=0.35)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(densities, kind):
    if "grad_log_prob" in REFUSED.get(kind, {}):
        return
    density, y = densities[kind]
    gradient = density.grad_log_prob(y).reshape(len(density), -1)
    step = 1e-5
    for j in range(density.n_outputs):
        moved = []
        for h in (step, -step):
            at = y.reshape(len(density), -1).copy()
            at[:, j] += h
            moved.append(density.log_prob(at.reshape(y.shape)))
        expected = (moved[0] - moved[1]) / (2.0 * step)
        np.testing.assert_allclose(gradient[:, j], expected, rtol=1e-4, atol=1e-4)


def mixture_log_prob(mixture, y):
    """Log density (n_rows,) of components at values (n_rows,)."""
    law = {"normal": norm, "student_t": t}[mixture.kernel]
    shape = () if mixture.df is None else (mixture.df,)
    terms = law.logpdf(y[:, None], *shape, mixture.loc, mixture.scale)
    if mixture.limits is not None:
        low, high = (law.cdf(b, *shape, mixture.loc, mixture.scale) for b in mixture.limits)
        terms -= np.log(high - low)
    return logsumexp(terms, axis=1, b=mixture.weight)


@pytest.mark.parametrize("kind", ["plain", "reordered", "errors", "given"])
def test_components_are_the_conditional(densities, kind):
    density, y = densities[kind]
    first = {"plain": 0, "reordered": 1, "errors": 0, "given": 1}[kind]
    mixture = density.components()
    assert mixture.output == f"y{first}"
    np.testing.assert_allclose(mixture.weight.sum(axis=1), 1.0)
    at_first = mixture_log_prob(mixture, y[:, first])
    # Errors of x are averaged over other points there
    tolerance = {"rtol": 0.0, "atol": 0.05} if kind == "errors" else {"rtol": 1e-6}
    np.testing.assert_allclose(density.marginal_log_prob(first, y[:, first]), at_first, **tolerance)
    assert (mixture.limits is None) == (first == 1)
    assert f"Components('y{first}', 'normal'" in repr(mixture)
    if kind == "given":
        with pytest.raises(ValueError, match=r"output 0 \(y0\) is known"):
            density.components(0)
        return
    later = density.components(1 - first, y)
    both = at_first + mixture_log_prob(later, y[:, 1 - first])
    np.testing.assert_allclose(both, density.log_prob(y), rtol=1e-6)
    with pytest.raises(ValueError, match=f"those before it in the order, y{first}; pass"):
        density.components(1 - first)
    with pytest.raises(ValueError, match=r"y must have shape \(3, 2\), got \(2, 2\)"):
        density.components(1 - first, y[:2])


def test_components_of_other_families(bimodal):
    X, y, _ = bimodal
    for likelihood, kernel in [
        ("most", "student_t"),
        ("gaussian", "normal"),
        ("laplace", "laplace"),
    ]:
        est = small(likelihood=likelihood, epochs=3, n_members=2, dtype="float64").fit(X, y[:, 0])
        density = est.predict_density(X[:4])
        mixture = density.components()
        assert mixture.kernel == kernel
        assert mixture.weight.shape == (4, 6 if likelihood == "most" else 2)
        if kernel != "laplace":
            found = mixture_log_prob(mixture, y[:4, 0])
            np.testing.assert_allclose(found, density.log_prob(y[:4, 0]), rtol=1e-6)
    for options, reason in [
        ({"y_scaler": "power"}, "y_scaler is not linear"),
        ({"likelihood": "spline"}, "Spline is no mixture of location-scale distributions"),
        ({"likelihood": "mob", "limits": [-9.0, 9.0]}, "MixtureOfBetas is no mixture"),
    ]:
        density = small(epochs=1, **options).fit(X, y[:, 0]).predict_density(X[:2])
        with pytest.raises(NotImplementedError, match=reason):
            density.components()


@pytest.mark.parametrize(
    "options",
    [
        {"y_scaler": "power"},
        {"y_scaler": "robust", "order": [1, 0]},
        {"likelihood": "molog", "linear_base": True},
        {"likelihood": "most"},
        {"likelihood": "spline", "y_scaler": "minmax"},
        {"likelihood": "truncated_molog"},
        {"likelihood": "truncated_most"},
        {"likelihood": "mob"},
        {"likelihood": "truncated_mog", "y_scaler": "power", "activation": "tanh"},
    ],
    ids=str,
)
def test_gradients_of_all_families_and_scalers(bimodal, options):
    X, y, _ = bimodal
    bounded = str(options.get("likelihood")).startswith(("truncated", "mob"))
    limits = [[-9.0, 9.0], [-9.0, 9.0]] if bounded else None
    est = small(dtype="float64", epochs=2, n_members=2, limits=limits, **options).fit(X, y)
    density, y = est.predict_density(X[:6]), y[:6]
    several = np.stack([y, y + 0.1, y - 0.2], axis=1)
    gradient = density.grad_log_prob(several)
    np.testing.assert_allclose(gradient[:, 0], density.grad_log_prob(y), rtol=1e-9)
    for j in range(2):
        step = np.zeros(2)
        step[j] = 1e-5
        slope = (density.log_prob(several + step) - density.log_prob(several - step)) / 2e-5
        np.testing.assert_allclose(gradient[..., j], slope, rtol=1e-4, atol=1e-4)
    if bounded:
        assert np.isnan(density.grad_log_prob(np.full((6, 2), 10.0))).all()


@pytest.mark.parametrize("likelihood", ["mog", "truncated_mog", "molog", "mob", "ordinal"])
def test_grids_are_the_density_at_given_values(bimodal, likelihood):
    X, y, _ = bimodal
    bounded = likelihood in ("truncated_mog", "mob", "ordinal")
    limits = [[-2.0, 2.0], [-np.inf, np.inf]] if bounded else None
    inside = np.clip(y, -2.0, 2.0)
    if likelihood == "ordinal":
        inside[:, 0] = np.round(inside[:, 0])
    est = small(
        epochs=3, n_members=2, limits=limits, likelihood=[likelihood, "mog"], order=[0, 1]
    ).fit(X, inside)
    density = est.predict_density(X[:7])
    grid = np.linspace(-3.0, 3.0, 25)
    pdf = density.pdf_grid("y0", grid)
    outside = np.abs(grid) > 2.0
    assert (pdf[:, outside] == 0.0).all() or not bounded
    at = np.tile(grid[~outside], (7, 1))
    log_prob = density.marginal_log_prob("y0", at)
    # Up to single precision, of which exponents in the tails take three digits
    np.testing.assert_allclose(pdf[:, ~outside], np.exp(log_prob), rtol=1e-4, atol=1e-12)
    if bounded:
        assert np.isneginf(density.marginal_log_prob("y0", np.full(7, 2.5))).all()
        assert (density.marginal_cdf("y0", np.full(7, 2.5)) == 1.0).all()
        assert (density.marginal_cdf("y0", np.full(7, -2.5)) == 0.0).all()
    if likelihood == "ordinal":
        np.testing.assert_allclose(density.pdf_grid(0, np.arange(-2.0, 3.0)).sum(axis=1), 1.0)


def test_known_outputs_one_after_the_other():
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 1))
    y = np.cumsum(random.normal(size=(400, 3)), axis=1)
    density = small(epochs=10, n_members=2).fit(X, y).predict_density(X[:4])
    both = density.given({0: y[:4, 0], 1: y[:4, 1]})
    again = density.given({0: y[:4, 0]}).given({1: y[:4, 1]})
    np.testing.assert_allclose(again.log_prob(y[:4]), both.log_prob(y[:4]))
    expected = density.given({0: y[:4, 0]}).marginal_log_prob(1, y[:4, 1])
    expected = both.log_evidence() - density.given({0: y[:4, 0]}).log_evidence() - expected
    np.testing.assert_allclose(expected, 0.0, atol=1e-4)
    # The output in between is drawn, and weighed by the density it gives to the known ones
    outer = density.given({0: y[:4, 0], 2: y[:4, 2]})
    grid = np.linspace(-9.0, 9.0, 400)
    points = np.repeat(y[:4, None], 400, axis=1)
    points[..., 1] = grid
    exact = np.exp(density.log_prob(points))
    exact /= np.trapezoid(exact, grid)[:, None]
    np.testing.assert_allclose(outer.pdf_grid(1, grid), exact, atol=0.05 * exact.max())
    joint = density.marginal((0, 2), grid=(grid[::8], grid[::8])).density
    swapped = density.marginal((2, 0), grid=(grid[::8], grid[::8])).density
    np.testing.assert_allclose(joint, swapped.swapaxes(1, 2), rtol=1e-6, atol=1e-12)
    assert again.mode()[0, 0] == y[0, 0]
    with pytest.raises(ValueError, match=r"given names output 1 \(y1\), which is known"):
        both.given({1: 0.0})
    with pytest.raises(ValueError, match="nothing is left to infer"):
        both.given({2: 0.0})
    with pytest.raises(ValueError, match=r"output 0 \(y0\) is known, so that it has no density"):
        both.marginal_log_prob(0, np.zeros(4))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(4), r"values must have shape \(3,\) or \(3, n_values\), got \(4,\)"),
        (np.zeros((3, 2, 2)), r"got \(3, 2, 2\)"),
        (np.full(3, np.nan), "values has 3 entries that are nan"),
        (["a"] * 3, "values must be numbers"),
    ],
)
def test_values_of_one_output_are_checked(densities, values, message):
    density, _ = densities["plain"]
    for member in (density.marginal_log_prob, density.marginal_cdf):
        with pytest.raises(ValueError, match=message):
            member(0, values)
        with pytest.raises(ValueError, match="output names 'z', which is not a column"):
            member("z", values)
    with pytest.raises(ValueError, match="grid must hold rising numbers"):
        density.pdf_grid(0, None)


def test_densities_of_any_origin_can_be_recalibrated(bimodal):
    X, y, _ = bimodal
    inner = CalibratedDensity(small(epochs=2), cv=0.5, random_state=0)
    nested = CalibratedDensity(inner, cv=0.5, random_state=0).fit(X, y)
    density = nested.predict_density(X[:3])
    assert density.mean().shape == (3, 2)
    assert density.marginal_cdf(1, y[:3, 1]).shape == (3,)
    for call in (density.marginal, lambda j: density.grad_log_prob(y[:3])):
        with pytest.raises(NotImplementedError, match="RecalibratedDensity does not tell"):
            call(0)


def test_evidence_for_a_new_prior(densities):
    density, _ = densities["plain"]
    assert (density.marginalise(lambda y: np.full(len(y), 3.0)).log_evidence().round(9)
            == np.log(3.0).round(9)).all()  # fmt: skip
    new = density.marginalise(lambda y: np.exp(y[:, 0]))
    draws = density.sample(4000, random_state=0)[..., 0]
    # Five standard errors of a mean
    spread = 5 * np.exp(draws).std(axis=1) / np.sqrt(4000)
    mean = np.exp(draws).mean(axis=1)
    assert (np.abs(np.exp(new.log_evidence()) - mean) < spread).all()
