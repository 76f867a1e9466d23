"""Configuration of the documentation: pages that need no other host when they are opened."""

import sys
from pathlib import Path

import sklearn_san

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "sklearn_san"
author = "The sklearn_san developers"
copyright = "the sklearn_san developers, BSD-3-Clause"
release = sklearn_san.__version__
version = release
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "sphinx_design",
    "sphinx_copybutton",
    "myst_parser",
    "licences",
    "links",
    "mathml",
]
exclude_patterns = ["_build", "**/sg_execution_times.rst", "sg_execution_times.rst"]
templates_path = ["_templates"]
autosummary_generate = True
autodoc_typehints = "none"  # docstrings say more
default_role = "py:obj"
toc_object_entries_show_parents = "hide"
myst_heading_anchors = 3
numpydoc_show_class_members = False
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_san"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_math_renderer = "mathml"
html_show_sourcelink = False
html_show_sphinx = False
html_sidebars = {"index": []}
html_theme_options = {
    "logo": {"text": "sklearn_san"},
    "header_links_before_dropdown": 5,
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("sklearn_san",),
    "reference_url": {"sklearn_san": None},
    "filename_pattern": r"plot_",
    "ignore_pattern": r"output",
    "abort_on_example_error": True,
    "capture_repr": (),  # displays draw themselves
    "min_reported_time": 1e9,
    "show_signature": False,
    "remove_config_comments": True,
    "download_all_examples": False,
    "within_subsection_order": "gallery.Order",
}
