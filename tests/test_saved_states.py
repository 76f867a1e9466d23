"""Files of models that were made up: refused with what is wrong, or as good as any other."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import ARRAYS, GOLDEN, REMOVED, all_paths, find, made_up, parts
from test_golden import table

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san._saved_states import CLASSES
from sklearn_san.exceptions import CorruptModelError

HUGE = 10**9
NAN, INF = {"float": "nan"}, {"float": "inf"}
MODELS = ("ordered", "mixed", "double")


def at(index, value):
    """Function that puts a value into an array."""

    def changed(array):
        array = array.copy()
        array[index] = value
        return array

    return changed


def shorter(array):
    return array[:-1]


def wider(array):
    return np.concatenate([array, array], axis=-1)


def negative(array):
    return -array


def as_text(array):
    return array.view(np.uint8)


#: Model, path, what is put there, and what the error says must be there instead
MADE_UP = [
    # The network: buffers
    ("ordered", "network_.limits", shorter, "limits in an array of shape (families, 2)"),
    ("ordered", "network_.limits", at((0, 0), np.nan), "lower and upper limits"),
    ("ordered", "network_.limits", negative, "lower and upper limits"),
    ("ordered", "network_.limits", np.float16, "lower and upper limits"),
    ("ordered", "network_.limits", np.float64, "finite float64 of shape"),
    ("ordered", "network_.limits", np.ravel, "lower and upper limits"),
    ("ordered", "network_.limits", [[0, 1], [0, 1]], "lower and upper limits"),
    ("ordered", "network_.limits", REMOVED, "lower and upper limits"),
    ("ordered", "network_.base", REMOVED, "LinearBase, got nothing"),
    ("ordered", "network_.base.used", [99], "rising numbers of some of 2 outputs"),
    ("ordered", "network_.base.used", [1, 0], "rising numbers of some of 2 outputs"),
    ("ordered", "network_.base.used", [0, 0, 1], "rising numbers of some of 2 outputs"),
    ("ordered", "network_.base.used", [-1], "a list of a whole number"),
    ("ordered", "network_.base.used", ["0"], "a list of a whole number"),
    ("ordered", "network_.base.used", [False], "a list of a whole number"),
    ("ordered", "network_.base.used", [0], "0 for outputs that are not used"),
    ("ordered", "network_.base.weight_x", wider, "(families, n_features)"),
    ("ordered", "network_.base.weight_x", at((0, 0), np.inf), "finite numbers"),
    ("ordered", "network_.base.weight_y", at((0, 1), 1.0), "finite numbers below the diagonal"),
    ("ordered", "network_.base.intercept", shorter, "finite numbers"),
    ("ordered", "network_.base.scale", at(0, 0.0), "positive finite numbers"),
    ("ordered", "network_.base.scale", at(1, np.nan), "positive finite numbers"),
    ("ordered", "network_.base.scale", negative, "positive finite numbers"),
    ("double", "network_.base.scale", at(0, 2.0), "1 for outputs that are not used"),
    # The network: sizes
    ("ordered", "network_.n_features", HUGE, "(families, n_features)"),
    ("double", "network_.n_features", -2, "a whole number from 1"),
    ("double", "network_.n_features", True, "a whole number from 1"),
    ("ordered", "network_.n_members", 3, "finite float32 of shape (3, 9)"),
    ("ordered", "network_.n_members", HUGE, "finite float32 of shape (1000000000, 9)"),
    ("ordered", "network_.n_members", 0, "a whole number from 1"),
    ("ordered", "network_.blocks.0.shape", {"tuple": [HUGE]}, "of shape (2, 1000000000, 9)"),
    ("ordered", "network_.blocks.1.shape", {"tuple": [7]}, "of shape (2, 7, 6)"),
    ("ordered", "network_.blocks.1.shape", {"tuple": []}, "one or more widths"),
    ("ordered", "network_.blocks.1.shape", [8], "one or more widths"),
    ("ordered", "network_.blocks.1.shape", {"tuple": [8, 8]}, "must be finite float32"),
    ("mixed", "network_.blocks.1.shape", {"tuple": [9]}, "blocks.2.shape must be (9,), got (8,)"),
    ("ordered", "network_.blocks.0.n_sequence", 2, "finite float32 of shape (2, 8)"),
    ("ordered", "network_.blocks.0.n_sequence", -1, "a whole number from 0"),
    ("mixed", "network_.blocks.2.n_sequence", HUGE, "n_sequence must be 3, got 1000000000"),
    ("ordered", "network_.blocks.1.n_sequence", 3, "n_sequence must be 0, got 3"),
    ("ordered", "network_.blocks.0.layer_norm", False, "blocks.1.layer_norm must be False"),
    ("ordered", "network_.blocks.1.layer_norm", False, "must be True"),
    ("ordered", "network_.blocks.0.layer_norm", "yes", "True or False"),
    ("ordered", "network_.blocks.1", REMOVED, "a Block, got nothing"),
    ("ordered", "network_.blocks.1", [], "a Block, got []"),
    ("ordered", "network_.blocks.1.hidden", REMOVED, "finite float32 of shape"),
    ("ordered", "network_.blocks", 3, "ModuleList, got 3"),
    ("ordered", "network_.activation", {"instance": ["Linear", []]}, "ELU or GELU or ReLU"),
    ("ordered", "network_.activation", "relu", "ELU or GELU or ReLU"),
    # The network: weights
    ("ordered", "network_.blocks.1.hidden.0.weight", wider, "finite float32 of shape (2, 8, 8)"),
    ("ordered", "network_.blocks.1.hidden.0.weight", shorter, "finite float32 of shape"),
    ("ordered", "network_.blocks.1.hidden.0.weight", at((0, 0, 0), np.nan), "finite float32"),
    ("ordered", "network_.blocks.1.hidden.0.bias", np.float64, "finite float32 of shape (2, 8)"),
    ("ordered", "network_.blocks.1.hidden.0.bias", REMOVED, "finite float32 of shape (2, 8)"),
    ("ordered", "network_.blocks.0.norms.0.weight", shorter, "finite float32 of shape (2, 8)"),
    ("ordered", "network_.blocks.0.heads.bias", wider, "finite float32 of shape (2, 9)"),
    ("ordered", "network_.blocks.0.heads.weight", wider, "finite float32 of shape (2, 8, 9)"),
    ("double", "network_.encoder.0.weight", wider, "network_.blocks.0.hidden.0.weight must be"),
    ("double", "network_.encoder.0.bias", shorter, "finite float64 of shape (2, 5)"),
    ("double", "network_.encoder.0", REMOVED, "network_.blocks.0.hidden.0.weight must be"),
    ("double", "network_.encoder.0.weight", REMOVED, "a matrix for each member"),
    ("double", "network_.encoder.0.weight", np.ravel, "a matrix for each member"),
    ("double", "network_.encoder", None, "ModuleList, got None"),
    # Families
    ("ordered", "network_.families.0.K", 3, "heads.bias must be finite float32 of shape (2, 12)"),
    ("ordered", "network_.families.0.K", HUGE, "finite float32 of shape (2, 3000000003)"),
    ("ordered", "network_.families.0.K", None, "families of likelihood with all parameters"),
    ("ordered", "network_.families.0.K", 0, "a whole number from 1"),
    ("ordered", "network_.families.0.K", True, "a whole number from 1"),
    ("ordered", "network_.families.0.min_scale", 0.0, "a positive number"),
    ("ordered", "network_.families.0.min_scale", NAN, "a positive number"),
    ("ordered", "network_.families.0.colour", 1, "no data of ours (TypeError"),
    ("ordered", "network_.families.1", "mog", "one or more families"),
    ("ordered", "network_.families", [], "network_._groups[0][0] must be one of"),
    ("ordered", "network_.families.1", {"again": 0}, "one or more families"),
    (
        "mixed",
        "network_.families.1.n_classes",
        3,
        "heads.bias must be finite float32 of shape (2, 6)",
    ),
    ("mixed", "network_.families.2.spacing", 0.0, "a positive number"),
    ("mixed", "network_.families.2.offset", INF, "a finite number"),
    ("mixed", "network_.families.3.at", "middle", "one of 'low', 'high' or a finite number"),
    ("mixed", "network_.families.3.at", "low", "needs limits and a bounded base"),
    ("mixed", "network_.families.3.base", {"instance": ["Categorical", []]}, "continuous family"),
    ("mixed", "network_.families.3.base", REMOVED, "Likelihood, got nothing"),
    ("double", "network_.families.0.bins", 7, "heads.bias must be finite float64 of shape (2, 25)"),
    # What surrounds the network
    ("ordered", "network_", REMOVED, "must be SAN, got nothing"),
    ("ordered", "order_", at(0, 0), "all column numbers, each once"),
    ("ordered", "order_", at(0, 2), "all column numbers, each once"),
    ("ordered", "order_", shorter, "all column numbers, each once"),
    ("ordered", "order_", np.float64, "all column numbers, each once"),
    ("ordered", "order_", [1, 0], "all column numbers, each once"),
    ("ordered", "limits_", at((1, 0), np.nan), "lower and upper limits"),
    ("ordered", "limits_", shorter, "lower and upper limits"),
    ("ordered", "limits_", at((0, 0), -9.0), "those of the network_ in the units of y"),
    ("ordered", "families_", ["mog", "mog"], "network_._groups[0][0] must be one of"),
    ("ordered", "families_.1", None, "a list of Likelihood, as many as n_outputs_"),
    ("ordered", "families_.0", {"instance": ["Categorical", []]}, "those of the network_"),
    ("ordered", "output_names_", ["mass"], "a list of text, as many as n_outputs_"),
    ("ordered", "output_names_", ["mass", "size"], "of the output_names_"),
    ("ordered", "output_names_", ["mass", 1], "a list of text"),
    ("ordered", "n_outputs_", 3, "a list of text, as many as n_outputs_"),
    ("ordered", "n_outputs_", "2", "a whole number from 1"),
    ("double", "n_features_in_", 3, "that of the input_encoder_"),
    ("double", "n_features_in_", HUGE, "that of the input_encoder_"),
    ("ordered", "n_features_in_", HUGE, "text in an array of shape (n_features_in_,)"),
    ("ordered", "feature_names_in_.0", 1, "text in an array"),
    ("ordered", "_one_dimensional", True, "False for several outputs"),
    ("ordered", "_one_dimensional", None, "True or False"),
    ("ordered", "n_members_", 3, "that of the network_"),
    ("ordered", "n_iter_", -1, "a whole number from 0"),
    ("ordered", "loss_curve_", ["low"], "a list of a number"),
    ("ordered", "_increment_state", 1, "a dict"),
    ("ordered", "predict", 1, "left out, being a member of"),
    ("ordered", "__class__", 1, "left out, being a member of"),
    ("ordered", "device", None, "text or device or a whole number"),
    ("ordered", "K", "many", "parameters are not those of a fitted model: K must be"),
    ("ordered", "learning_rate", NAN, "parameters are not those of a fitted model: learning_rate"),
    ("ordered", "x_scaler", {"instance": ["SiLU", []]}, "x_scaler must be None, a short name"),
    # Scalers
    ("ordered", "y_scaler_", REMOVED, "instances that come before, got"),
    ("mixed", "y_scaler_.parts.0.0", at(0, 9), "scalers of all columns, each once"),
    ("mixed", "y_scaler_.parts.0.0", wider, "pairs of column numbers and scaler"),
    ("mixed", "y_scaler_.parts.1.0", negative, "pairs of column numbers and scaler"),
    ("mixed", "y_scaler_.parts", [], "scalers of all columns, each once"),
    ("mixed", "y_scaler_.parts.0", 1, "pairs of column numbers and scaler"),
    ("mixed", "y_scaler_.linear", True, "whether all parts are"),
    ("mixed", "y_scaler_.scaling.0", "log", "one of 'free', 'affine', 'none'"),
    ("mixed", "y_scaler_.spec", "log", "one of 'standard'"),
    ("mixed", "y_scaler_.parts.0.1.power.lambdas_", wider, "finite numbers"),
    ("mixed", "y_scaler_.parts.0.1.power.lambdas_", at(0, np.nan), "finite numbers"),
    ("mixed", "y_scaler_.parts.0.1.power.method", "log", "one of 'yeo-johnson', 'box-cox'"),
    ("mixed", "y_scaler_.parts.0.1.power.standardize", True, "without standardisation"),
    ("mixed", "y_scaler_.parts.0.1.power.transform", 1, "left out, being a member of Power"),
    ("mixed", "y_scaler_.parts.0.1.affine.n_features_in_", HUGE, "(n_features_in_,)"),
    ("mixed", "y_scaler_.parts.1.1.affine.n_features_in_", HUGE, "finite numbers"),
    ("mixed", "y_scaler_.parts.2.1.affine.n_features_in_", HUGE, "affine must be fitted"),
    ("mixed", "y_scaler_.parts.2.1.affine.with_mean", True, "finite numbers"),
    ("ordered", "y_scaler_.slope", at(0, 0.0), "positive finite numbers"),
    ("ordered", "y_scaler_.slope", shorter, "as many as slope"),
    ("ordered", "y_scaler_.slope", at(0, 3.0), "that of its parts"),
    ("ordered", "y_scaler_.parts.0.1.slope", at(0, 3.0), "that of the linear scaler"),
    ("ordered", "y_scaler_.parts.0.1.affine.scale_", at(0, 0.0), "positive finite numbers"),
    ("ordered", "y_scaler_.parts.0.1.affine.scale_", at(0, 3.0), "that of the linear scaler"),
    ("ordered", "y_scaler_.parts.0.1.affine.scale_", shorter, "positive finite numbers"),
    ("ordered", "y_scaler_.parts.0.1.affine.mean_", at(1, np.inf), "finite numbers"),
    ("ordered", "y_scaler_.parts.0.1.affine.mean_", at(1, 3.0), "those of the network_"),
    ("ordered", "input_encoder_.scaler.scale_", at(0, np.nan), "positive finite numbers"),
    ("ordered", "input_encoder_.scaler.mean_", wider, "finite numbers"),
    ("ordered", "input_encoder_.scaler.n_features_in_", 2, "finite numbers"),
    ("ordered", "input_encoder_.scaler.n_features_in_", REMOVED, "fitted to the numbers"),
    ("ordered", "input_encoder_.scaler", None, "StandardScaler or MinMaxScaler"),
    ("mixed", "input_encoder_.scaler.center_", shorter, "finite numbers"),
    ("mixed", "input_encoder_.scaler.with_scaling", REMOVED, "positive finite numbers"),
    ("double", "input_encoder_.scaler.min_", as_text, "finite numbers"),
    ("double", "input_encoder_.scaler.clip", True, "must be False"),
    # Columns
    ("mixed", "input_encoder_.n_categories", None, "a list of None or a whole number"),
    ("mixed", "input_encoder_.n_categories", [None, None, 4], "the width of all blocks"),
    ("mixed", "input_encoder_.n_categories", [None, None, HUGE], "the width of all blocks"),
    ("mixed", "input_encoder_.n_categories", [None, None, -1], "None or a whole number"),
    ("mixed", "input_encoder_.n_categories", [None, 3, None], "features without categories"),
    ("mixed", "input_encoder_.numbers", at(1, 2), "the features without categories"),
    ("mixed", "input_encoder_.numbers", at(1, 99), "the features without categories"),
    ("mixed", "input_encoder_.numbers", negative, "column numbers"),
    ("mixed", "input_encoder_.missing", shorter, "booleans"),
    ("mixed", "input_encoder_.missing", at(0, False), "the width of all blocks of columns"),
    ("mixed", "input_encoder_.missing", np.int64, "booleans"),
    ("mixed", "input_encoder_.infinite", at(0, True), "of numbers, with nondetection"),
    ("mixed", "input_encoder_.nondetection", None, "True or False"),
    ("mixed", "input_encoder_.least_error", 0.0, "a positive number with use_errors"),
    ("mixed", "input_encoder_.least_error", REMOVED, "a positive number with use_errors"),
    ("mixed", "input_encoder_.error_scaler.scale_", wider, "positive finite numbers"),
    ("mixed", "input_encoder_.use_errors", False, "the width of all blocks of columns"),
    ("mixed", "input_encoder_.names", ["a"], "a list of text, as many as n_categories"),
    ("mixed", "input_encoder_.missing_rate", 2, "a number from 0 to 1"),
    ("mixed", "input_encoder_.imputer", 1, "left out or None or Imputer"),
    ("mixed", "input_encoder_.imputer", {"instance": ["Imputer", []]}, "imputer.mean must be"),
    ("mixed", "input_encoder_.n_inputs", 11, "the width of all blocks of columns"),
    ("mixed", "codec_.classes.0", None, "there for columns of labels"),
    ("mixed", "codec_.classes.0", {"objects": [[2], ["star", "galaxy"]]}, "labels in rising"),
    ("mixed", "codec_.classes.0", {"objects": [[2], ["star", 1]]}, "labels in rising order"),
    ("mixed", "codec_.classes.0", {"objects": [[0], []]}, "labels in rising order"),
    ("mixed", "codec_.classes.0", {"objects": [[3], ["a", "b", "c"]]}, "labels of the network_"),
    ("mixed", "codec_.classes.0", ["galaxy", "star"], "labels in rising order"),
    ("mixed", "codec_.is_label", [True], "a list of True or False, as many as names"),
    ("mixed", "codec_.is_label.0", False, "there for columns of labels"),
    ("mixed", "codec_.whole", None, "a list of True or False"),
    ("mixed", "feature_table_.categories.2", ["east", "east", "west"], "different categories"),
    ("mixed", "feature_table_.categories.2", ["east", ["west"], "x"], "different categories"),
    ("mixed", "feature_table_.categories.2", ["east"], "that of the input_encoder_"),
    ("mixed", "feature_table_.names", ["field"], "as many as names"),
    ("mixed", "feature_table_.categories", [None] * 3, "that of the input_encoder_"),
]


def load(data, folder):
    path = folder / "made up"
    path.write_bytes(data)
    return SANConditionalDensityEstimator.load(path)


@pytest.mark.parametrize(
    ("model", "path", "value", "words"),
    MADE_UP,
    ids=[f"{path}-{i}" for i, (_, path, *_) in enumerate(MADE_UP)],
)
def test_files_that_were_made_up_are_refused(model, path, value, words, tmp_path):
    with pytest.raises(CorruptModelError, match=r"made up' cannot be rebuilt") as info:
        load(made_up(model, (path, value)), tmp_path)
    message = str(info.value)
    assert words in message
    assert len(message) < 600


@pytest.mark.parametrize("model", MODELS)
def test_the_same_files_unchanged_are_not(model, tmp_path):
    assert made_up(model) == (GOLDEN / f"{model}.safetensors").read_bytes()
    load(made_up(model), tmp_path)


def test_labels_that_a_scaler_would_change_are_refused(tmp_path):
    affine = "y_scaler_.parts.2.1.affine"
    changes = [
        (f"{affine}.with_mean", True),
        (f"{affine}.mean_", {"array": "y_scaler_.parts[0][1].affine.mean_"}),
    ]
    with pytest.raises(CorruptModelError, match="y_scaler_ must be without effect on labels"):
        load(made_up("mixed", *changes), tmp_path)


# At random

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2, 3, 7, 8, 99, HUGE, 2**31, 2**63, -(2**63), 10**30]),
    st.sampled_from([-1.0, 0.0, 0.5, 1e-300, 1e300]),
    st.sampled_from([NAN, INF, {"float": "-inf"}]),
    st.sampled_from(["", "mog", "low", "high", "none", "float64", "power", "ab" * 9]),
    st.sampled_from([[], [None], [0], [[0]], {"dict": []}, {"tuple": []}, {"tuple": [1, 2]}]),
    st.sampled_from(sorted(CLASSES)).map(lambda name: {"instance": [name, []]}),
    st.integers(0, 30).map(lambda number: {"again": number}),
)
NUMBERS = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 2.0, 1e9])
ALTERATIONS = st.one_of(
    st.tuples(st.integers(0, 10**6), NUMBERS).map(lambda pair: putting(*pair)),
    st.sampled_from([shorter, wider, negative, as_text, np.ravel, np.transpose]),
    st.sampled_from(["?", "i1", "i4", "i8", "u1", "f2", "f4", "f8"]).map(
        lambda code: lambda array: array.astype(code)
    ),
)


def putting(place, value):
    """Function that puts a value into an array at one of its places."""

    def changed(array):
        array = np.ascontiguousarray(array)
        if array.size:
            array.reshape(-1)[place % array.size] = value
        return array

    return changed


@st.composite
def alterations(draw):
    """A model, and one entry of its file with what is put there."""
    model = draw(st.sampled_from(MODELS))
    tree = parts(model)[0]["tree"]
    path = draw(st.sampled_from(PATHS[model]))
    holder, at_ = find(tree, path)
    node = holder[at_]
    if isinstance(node, dict) and next(iter(node)) in ARRAYS and draw(st.integers(0, 3)):
        return model, path, draw(ALTERATIONS)
    if draw(st.booleans()):
        return model, path, draw(VALUES)
    holder, at_ = find(tree, draw(st.sampled_from(PATHS[model])))
    return model, path, holder[at_]


#: With another of these, it is another model, which says that these rows are none for it
AT_USE = ("device", "use_errors", "feature_names_in_", "likelihood", "codec_.classes")
PATHS = {
    model: [path for path in all_paths(parts(model)[0]["tree"]) if not path.startswith(AT_USE)]
    for model in MODELS
}
ROWS = {model: dict(np.load(GOLDEN / f"{model}.npz", allow_pickle=False)) for model in MODELS}


def put_to_use(est, model):
    """Density and draws of some rows."""
    X, y, X_err = (table(ROWS[model], name) for name in ("X", "y", "X_err"))
    log_prob = est.log_prob(X, y, X_err=X_err)
    assert log_prob.shape == (len(X),)
    draws = est.sample(X, 3, random_state=0, X_err=X_err)
    assert draws.shape == (len(X), 3, est.n_outputs_)


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(alterations())
def test_any_other_entry_is_refused_or_does_no_harm(tmp_path_factory, alteration):
    model, path, value = alteration
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = made_up(model, (path, value))
        except (TypeError, ValueError, OverflowError):
            return  # no file at all
        try:
            est = load(data, tmp_path_factory.mktemp("fuzz"))
        except CorruptModelError:
            return
        put_to_use(est, model)
