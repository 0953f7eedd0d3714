"""The documentation site: Sphinx reads this folder; `pages.py` writes the pages that follow from the code."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import pages  # noqa: E402 - found in this folder

pages.write(HERE / "generated")

project = "DenseBench"
author = "the DenseBench authors"
copyright = "the DenseBench authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
html_theme = "furo"
html_title = "DenseBench"
html_copy_source = False
html_show_sphinx = False
