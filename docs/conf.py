"""Configuration of the documentation."""

from pathlib import Path

import sklearn_san

project = "sklearn_san"
author = "The sklearn_san developers"
release = sklearn_san.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Exact conditional densities for scikit-learn"}
autosummary_generate = True
templates_path = ["_templates"]
numpydoc_show_class_members = False
sphinx_gallery_conf = {
    "examples_dirs": str(Path(__file__).parents[1] / "examples"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"output",
    "abort_on_example_error": True,
    "capture_repr": (),  # displays draw themselves
    "min_reported_time": 1e9,
}
