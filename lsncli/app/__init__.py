"""Use cases: plain functions that return dataclasses and never print."""
