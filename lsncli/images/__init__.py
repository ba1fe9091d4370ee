"""Turn paths and URLs into batches of pixels.

In: folders, patterns, lists, archives, tables, URLs. Out: a listing of items with classes (``listing``), and
their pixels in bounded memory (``loader``). ``source_kinds`` is the registry of kinds of files.
"""
