"""How results are shown: rows as tables, csv, json, jsonl, Markdown and LaTeX."""
