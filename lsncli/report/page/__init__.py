"""The HTML page of `lsn report`: template, style and script as files, and what fills them."""
