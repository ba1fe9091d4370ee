"""The bundled open_clip model: configuration, assembly and export."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.mini.bpe import CONTEXT
from benchmarks.mini.class_table import DIM, SCALE
from benchmarks.mini.image_tower import MEAN, SIDE, STD, ImageTower
from lsncli.backbones.loading import ensure_torchvision

ensure_torchvision()
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg  # noqa: E402


def configuration(vocab_size: int) -> dict[str, Any]:
    """Return the contents of ``open_clip_config.json``."""
    return {
        "model_cfg": {
            "embed_dim": DIM,
            "vision_cfg": {
                "timm_model_name": "mobilenetv2_100",
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                "timm_proj": "linear",
                "timm_proj_bias": True,
                "image_size": SIDE,
            },
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": vocab_size,
                "width": 192,
                "heads": 3,
                "layers": 4,
            },
        },
        "preprocess_cfg": {
            "mean": [round(value, 3) for value in MEAN.tolist()],
            "std": [round(value, 3) for value in STD.tolist()],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def build(vocab_size: int) -> CLIP:
    """Return the model with new text weights and logit scale 100."""
    parts = configuration(vocab_size)["model_cfg"]
    model = CLIP(parts["embed_dim"], CLIPVisionCfg(**parts["vision_cfg"]), CLIPTextCfg(**parts["text_cfg"]))
    nn.init.constant_(model.logit_scale, math.log(SCALE))
    return model


def adopt_image_tower(model: CLIP, tower: ImageTower) -> None:
    """Copy the trained image tower into the model."""
    trunk = {k: v for k, v in tower.trunk.state_dict().items() if not k.startswith("classifier.")}
    model.visual.trunk.load_state_dict(trunk)
    model.visual.head.proj.load_state_dict(tower.proj.state_dict())


def export(model: CLIP, vocab_size: int, out: Path) -> None:
    """Write fp16 weights and configuration; each file is replaced atomically."""
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    weights = out / "open_clip_model.safetensors.part"
    save_file(state, weights)
    weights.chmod(0o644)
    os.replace(weights, out / "open_clip_model.safetensors")
    config = out / "open_clip_config.json.part"
    config.write_text(json.dumps(configuration(vocab_size), indent=1) + "\n", "utf-8")
    os.replace(config, out / "open_clip_config.json")


def reload(out: Path) -> CLIP:
    """Return the exported model as users load it."""
    import open_clip

    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{out.resolve()}")
    torch.set_grad_enabled(True)
    return model.eval()
