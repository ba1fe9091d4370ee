"""The tables of the paper: what was published, what is measured, side by side."""
