"""Show results: rows in every output format, figures, and the HTML page.

In: rows and their columns, scores, images. Out: text, files, one page of HTML. ``FORMATS`` (``formats``) is
the registry of formats.
"""
