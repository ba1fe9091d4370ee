"""Words for every image of a row's sets, chosen from a word list: once for a set, before it is scored."""

from lsncli.bench.jobs import Score
from lsncli.console import Tick, silent
from lsncli.methods.candidates import TOP, WordFeatures, propose
from lsncli.methods.heads import Heads
from lsncli.store.reader import read_split


def lay_out_words(score: Score, heads: Heads, tick: Tick = silent) -> None:
    """Write the candidates of every set that ``score`` looks at and that has none yet.

    ``heads`` are bound to the word list of the score. ``tick`` hears of images. Raises as ``propose`` does.
    """
    missing = [name for name in score.place.tested if not heads.work.candidates(name).is_file()]
    if not missing:
        return
    features = WordFeatures(heads.tower)
    for name in missing:
        propose(heads.work, read_split(heads.work.features, name), score.words, features, TOP, tick)
