"""Measure the tables and figures of the paper beside what was published.

In: a suite (TOML) and image sets. Out: tables, figures, and a record of each measured row.
"""
