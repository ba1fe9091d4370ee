"""A pruned copy of CLIP's byte-pair vocabulary, which splits our words exactly as the full one does.

It keeps the first merges, and every merge that makes a word of the names, templates or extra words. At
each step the full tokenizer merges the pair of the lowest rank; that merge is kept, so the pruned
tokenizer does the same.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterable
from pathlib import Path

from lsncli.backbones.loading import ensure_torchvision

ensure_torchvision()
from open_clip.tokenizer import SimpleTokenizer, default_bpe  # noqa: E402

FIRST_MERGES = 6000
CONTEXT = 48


def _used_merges(tokenizer: SimpleTokenizer, word: str) -> set[tuple[str, str]]:
    """Return the merges of one byte-encoded word."""
    ranks: dict[tuple[str, str], int] = tokenizer.bpe_ranks
    symbols = [*word[:-1], word[-1] + "</w>"]
    used: set[tuple[str, str]] = set()
    while len(symbols) > 1:
        best = min(itertools.pairwise(symbols), key=lambda p: ranks.get(p, 10**9))
        if best not in ranks:
            break
        used.add(best)
        merged: list[str] = []
        for symbol in symbols:
            if merged and (merged[-1], symbol) == best:
                merged[-1] += symbol
            else:
                merged.append(symbol)
        symbols = merged
    return used


def write_pruned(texts: Iterable[str], out: Path) -> SimpleTokenizer:
    """Write the pruned vocabulary to ``out`` and return the tokenizer that reads it."""
    full = SimpleTokenizer()
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    keep = set(merges[:FIRST_MERGES])
    texts = list(texts)
    for text in texts:
        for token in full.pat.findall(full.clean_fn(text)):
            encoded = "".join(full.byte_encoder[byte] for byte in token.encode("utf-8"))
            keep |= _used_merges(full, encoded)
    kept = [merge for merge in merges if merge in keep]
    body = "\n".join(["#version: 0.2", *(" ".join(merge) for merge in kept)])
    with out.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as stream:
        stream.write(body.encode("utf-8"))
    pruned = SimpleTokenizer(bpe_path=str(out), context_length=CONTEXT)
    for text in texts:
        before = [full.decoder[i] for i in full.encode(text)]
        assert before == [pruned.decoder[i] for i in pruned.encode(text)], text
    assert pruned.eot_token_id == pruned.vocab_size - 1
    return pruned
