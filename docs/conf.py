"""Sphinx configuration: `sphinx-build -W --keep-going docs docs/_build/html`."""

import importlib.util
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

from code_links import linkcode_resolve  # noqa: E402, F401  # Sphinx looks for it here

import minifbi  # noqa: E402

project = "minifbi"
author = "The minifbi authors"
project_copyright = author
release = version = minifbi.__version__

extensions = [
    "code_links",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.linkcode",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
if importlib.util.find_spec("sphinx-mathjax-offline"):
    extensions.append("sphinx-mathjax-offline")  # formulas also without a network
exclude_patterns = ["_build", "reproduction/table1.md", "**.ipynb_checkpoints"]

# ---- Markdown and notebooks --------------------------------------------------------------
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed with their outputs
nb_merge_streams = True
nb_render_markdown_format = "myst"  # so that tables that a cell makes are tables

# ---- the reference, from docstrings ------------------------------------------------------
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say the types, and the shapes with them
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_preprocess_types = False
intersphinx_mapping: dict[str, tuple[str, None]] = {}  # the build needs no network

# ---- how it looks ------------------------------------------------------------------------
html_theme = "furo"
html_title = "minifbi"
html_static_path = ["_static"]
html_css_files = ["minifbi.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#1a5f96",
        "color-brand-content": "#1a5f96",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7ab8e6",
        "color-brand-content": "#7ab8e6",
    },
}


def copy_tutorials() -> None:
    """Sphinx reads nothing outside docs/, so the notebooks are copied into docs/tutorials."""
    source, copy = HERE.parent / "tutorials", HERE / "tutorials"
    copy.mkdir(exist_ok=True)
    for stale in copy.glob("*.ipynb"):
        if not (source / stale.name).exists():
            stale.unlink()
    for notebook in source.glob("*.ipynb"):
        target = copy / notebook.name
        if not target.exists() or target.read_bytes() != notebook.read_bytes():
            shutil.copyfile(notebook, target)


def links_to_tutorials(app, docname, source) -> None:
    """The pages link to ../tutorials, which is right on GitHub; in the site it is tutorials/."""
    source[0] = re.sub(
        r"\]\(((?:\.\./)*)\.\./tutorials/(\w+\.ipynb)", r"](\1tutorials/\2", source[0]
    )


def plain_bars_and_stars(app, what, name, obj, options, lines) -> None:
    """In docstrings |x| is an absolute value and *args are arguments, not markup."""
    for i, line in enumerate(lines):
        pieces = re.split(r"(``.*?``)", line)  # code stays as it is
        for k in range(0, len(pieces), 2):
            pieces[k] = pieces[k].replace("|", r"\|")
            pieces[k] = re.sub(r"(?<=[\s(])\*(?=\w+[),])", r"\\*", pieces[k])
        lines[i] = "".join(pieces)


def setup(app) -> None:
    copy_tutorials()
    # before napoleon (500), which writes stars that do mean markup
    app.connect("autodoc-process-docstring", plain_bars_and_stars, priority=400)
    app.connect("source-read", links_to_tutorials)
