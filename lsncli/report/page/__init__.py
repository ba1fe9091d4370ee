"""The HTML page of `lsn report`: template, style and script as files, and the code that fills them."""
