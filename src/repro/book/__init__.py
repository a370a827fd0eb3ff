"""From a notebook to the rendered book.

=================  =================================================================
``layout``         where things are: chapters, claims, results, build folder
``parameters``     typed, documented, checked notebook parameters
``runner``         one chapter or page, one run, in a kernel of its own, one result
``claims``         the ledger: what a paper claims, how it is tested, what was found
``build``          run, judge, and render the book
=================  =================================================================

The submodules are imported one by one: a notebook that needs ``parameters`` and ``claims`` should not depend
on the code that renders pages.
"""

from repro._extras import require

require(
    "book",
    *("filelock", "ipykernel", "jinja2", "joblib", "markdown_it", "mdit_py_plugins", "nbclient", "nbformat"),
    *("mathjax", "papermill", "psutil", "pyarrow", "pybtex", "pydantic", "rich", "typer", "yaml", "bs4"),
    "fontTools",
)
