"""Prompts as if learned, CoOp or CoCoOp: random contexts and meta-nets for the tiny model, in a workspace."""

from dataclasses import asdict

import numpy as np
import torch
from workspace_samples import CLASSES

from lsncli.app import binding
from lsncli.app.heldout import hold_out
from lsncli.app.workspace import Workspace
from lsncli.artefacts.prompts import LearnedPrompts, save_prompts
from lsncli.prompts.conditional import META
from lsncli.prompts.learner import settings_layout
from lsncli.prompts.losses import Kind
from lsncli.prompts.settings import preset
from lsncli.store.reader import read_split
from lsncli.types import unit

WIDTH = DIM = 32
HIDDEN = 2


def write_prompts(
    work: Workspace, backbone, kind: Kind, learner: str, sets: int = 1, **given
) -> LearnedPrompts:
    """Prompts of ``sets`` contexts of 4 vectors, large enough that images change the text."""
    settings = preset(kind, learner=learner, sets=sets, length=4, **given)
    random = np.random.default_rng([sets, len(kind)])
    shape = (sets, *((len(CLASSES),) if settings.specific else ()), 4, WIDTH)
    contexts = random.normal(size=shape).astype(np.float32)
    shapes = ((sets, HIDDEN, DIM), (sets, HIDDEN), (sets, WIDTH, HIDDEN), (sets, WIDTH))
    meta = {name: random.normal(size=one).astype(np.float32) for name, one in zip(META, shapes, strict=True)}
    tower, text = backbone.text_tower(), None
    if learner == "coop":
        encode = tower.encoder(settings_layout(tower, CLASSES, settings))
        text = unit(encode(torch.from_numpy(contexts)).numpy())
    prompts = LearnedPrompts(
        kind=kind,
        fingerprint=backbone.fingerprint,
        classes=CLASSES,
        contexts=contexts,
        meta={} if learner == "coop" else meta,
        text=text,
        settings=asdict(settings),
        history=(1.0,),
        held_out=hold_out(read_split(work.features, "train"), 0.2, None, 0).rule,
    )
    save_prompts(work.positive if kind == "positive" else work.negative, prompts)
    return prompts


def text_of(backbone, prompts: LearnedPrompts, feature: np.ndarray) -> np.ndarray:
    """Unit text features (K, C, D) for one image, by the definition of CoCoOp, set by set."""
    tower, image = backbone.text_tower(), unit(feature)
    encode = tower.encoder(settings_layout(tower, CLASSES, preset(prompts.kind, **shape_of(prompts))))
    sets = []
    for k, context in enumerate(prompts.contexts):
        hidden = np.maximum(prompts.meta["hidden.weight"][k] @ image + prompts.meta["hidden.bias"][k], 0)
        moved = context + prompts.meta["out.weight"][k] @ hidden + prompts.meta["out.bias"][k]
        sets.append(encode(torch.from_numpy(moved[None]).float())[0].numpy())
    return unit(np.stack(sets))


def shape_of(prompts: LearnedPrompts) -> dict:
    return {name: prompts.settings[name] for name in ("length", "specific", "names", "position", "sets")}


def no_model():
    raise AssertionError("no text tower is needed")


def count_rows(monkeypatch) -> list[int]:
    """How many rows each call of a CoCoOp function has, from now on."""
    encoded: list[int] = []
    real = binding.conditional_cosines

    def counting(*arguments, **options):
        compute = real(*arguments, **options)
        return lambda features: encoded.append(len(features)) or compute(features)

    monkeypatch.setattr(binding, "conditional_cosines", counting)
    return encoded
