"""A trainable copy of an image tower, and its checkpoint."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lsncli.backbones.loading import ensure_torchvision
from lsncli.errors import UsageError
from lsncli.types import Fingerprint

ensure_torchvision()
from open_clip.modified_resnet import ModifiedResNet  # noqa: E402  (needs a torchvision that imports)
from open_clip.timm_model import TimmModel  # noqa: E402
from open_clip.transformer import VisionTransformer  # noqa: E402

Tune = Literal["last-blocks", "all"]

LAST = 2
"""Transformer blocks that ``last-blocks`` tunes: 10 and 11 of ViT-B, as NPOS (Tao et al., ICLR 2023)."""
VISUAL = "visual."


@dataclass(frozen=True)
class ImageTower:
    """The image tower of a model, in float32 and apart from it: steps change the copy alone.

    It stays in evaluation mode: batch normalisation keeps its statistics, so that an image's features do not
    depend on its neighbours and are the same in training and afterwards.
    """

    module: nn.Module
    parameters: dict[str, Tensor]
    """The tuned parameters, by their name in the whole model; earlier layers run without a graph."""
    fingerprint: Fingerprint
    """Fingerprint of the model that it was copied from."""
    others: dict[str, Tensor]
    """The rest of the model's state: the text tower."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, H, W) float32, on the tower's device, to features (B, D), not normalised."""
        return pooled(self.module(pixels))

    @property
    def model(self) -> str:
        """Return the --model for --pretrained FILE, if the file contains ``state``."""
        known = self.fingerprint
        # A folder has the configuration, which a checkpoint has not.
        return f"local-dir:{known.pretrained}" if known.model == "local-dir" else known.model

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The preprocessing that ``openclip.load`` needs for the checkpoint, JSON-able."""
        known = self.fingerprint
        return {
            "image_mean": known.mean,
            "image_std": known.std,
            "image_interpolation": known.interpolation,
            "image_resize_mode": known.resize_mode,
        }

    def state(self) -> dict[str, Tensor]:
        """Return the current state dict of the whole model, copied to the CPU."""
        mine = {VISUAL + name: tensor for name, tensor in self.module.state_dict().items()}
        return {name: tensor.detach().cpu().clone() for name, tensor in (self.others | mine).items()}


def image_tower(model: nn.Module, fingerprint: Fingerprint, tune: Tune) -> ImageTower:
    """Return a copy of the model's image tower in which only the parts named by ``tune`` have gradients.

    Raises UsageError for half precision, in which small steps are lost, and for an architecture whose last
    blocks are not known.
    """
    if fingerprint.precision != "fp32":
        raise UsageError(f"--tune needs the model in fp32; found --precision {fingerprint.precision}.")
    whole: Any = model
    tower: nn.Module = deepcopy(whole.visual).eval().requires_grad_(False)
    chosen = {id(tensor) for tensor in (tower.parameters() if tune == "all" else last_blocks(tower))}
    parameters: dict[str, Tensor] = {
        VISUAL + name: tensor.requires_grad_()
        for name, tensor in tower.named_parameters()
        if id(tensor) in chosen
    }
    others = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(VISUAL)}
    return ImageTower(tower, parameters, fingerprint, others)


def pooled(answer: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return the image features of a tower's output; CoCa's also has those of every patch."""
    return answer[0] if isinstance(answer, tuple) else answer


def on_cpu_in_float32(tower: nn.Module) -> bool:
    """Return whether every parameter of a module is on a CPU and in float32."""
    return all(one.device.type == "cpu" and one.dtype == torch.float32 for one in tower.parameters())


def last_blocks(tower: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of the last two transformer blocks or the last stage, and of all later layers."""
    parts: Any = tower
    if isinstance(tower, VisionTransformer):
        names = ("attn_pool", "attn_pool_contrastive", "ln_post", "proj")
        last = [*parts.transformer.resblocks[-LAST:], *(getattr(parts, name, None) for name in names)]
    elif isinstance(tower, ModifiedResNet):
        last = [parts.layer4, parts.attnpool]
    elif isinstance(tower, TimmModel):
        last = [*_last_of_timm(parts.trunk), parts.head]
    else:
        raise _unknown(tower)
    modules = [part for part in last if isinstance(part, nn.Module)]
    return chain(
        (part for part in last if isinstance(part, nn.Parameter)), *(m.parameters() for m in modules)
    )


def _last_of_timm(trunk: nn.Module) -> list[nn.Module]:
    """Return the last blocks or stage of a timm model, and all later layers in computation order."""
    children = dict(trunk.named_children())
    name = next((name for name in ("blocks", "stages", "layers", "layer4") if name in children), "")
    if not name:
        raise _unknown(trunk)
    names, blocks = list(children), children[name]
    after = [children[other] for other in names[names.index(name) + 1 :]]
    if name == "layer4":
        return [blocks, *after]
    count = LAST if name == "blocks" and "patch_embed" in children else 1  # blocks of a ViT, or stages
    return [*list(blocks.children())[-count:], *after]


def _unknown(module: nn.Module) -> UsageError:
    return UsageError(
        f"--tune last-blocks: which blocks of a {type(module).__name__} are the last is not known.",
        "Use --tune all.",
    )
