"""Relevance maps: the parts of an image that support the cosine with a text, from the tower's last layers.

Three ways, by what the end of the tower is. All give non-negative maps over the tower's last grid:

* a transformer whose class token is the feature: attention of the class token in the last block, weighted by
  its gradient, positive part, mean over heads (Chefer et al., ICCV 2021, Eq. 5, with the one block that the
  authors use for CLIP);
* other transformers: gradient times activation of every patch where it enters the last block, positive part;
* convolutional networks: Grad-CAM on the last feature map (Selvaraju et al., ICCV 2017, Eqs. 1 and 2).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import linear, normalize

from lsncli.backbones.loading import ensure_torchvision
from lsncli.backbones.trainable_image_tower import pooled
from lsncli.errors import UsageError

ensure_torchvision()
from open_clip.modified_resnet import ModifiedResNet  # noqa: E402  (needs a torchvision that imports)
from open_clip.timm_model import TimmModel  # noqa: E402
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer  # noqa: E402

Reduce = Callable[[Tensor, Tensor], Tensor]
"""An activation and its gradient, both of one image, to a map (h, w)."""


def relevance(tower: nn.Module, pixels: Tensor, directions: Tensor) -> Tensor:
    """Return maps (T, h, w) of where ``pixels`` (1, 3, H, W) support the cosines with T directions.

    ``tower`` is an image tower of open_clip and computes in float32 whatever its precision; ``directions``
    (T, D) are unit text features. Maps are not negative, zero where nothing supports the cosine, and not
    normalised. Raises UsageError for a tower whose end is not known.
    """
    parts: Any = tower
    if isinstance(tower, VisionTransformer):
        block, grid = parts.transformer.resblocks[-1], parts.grid_size
        if parts.pool_type == "tok" and parts.attn_pool is None and isinstance(block, ResidualAttentionBlock):
            with _attention(block.attn) as seen:
                return _maps(tower, pixels, directions, seen, lambda a, g: _of_class_token(a * g, grid))
        return token_relevance(tower, block, 1, grid, pixels, directions)
    if isinstance(tower, ModifiedResNet):
        with _output(parts.layer4) as seen:
            return _maps(tower, pixels, directions, seen, grad_cam)
    if isinstance(tower, TimmModel):
        return _of_timm(tower, pixels, directions)
    raise _unknown(tower)


def token_relevance(
    tower: nn.Module,
    block: nn.Module,
    prefix: int,
    grid: tuple[int, int],
    pixels: Tensor,
    directions: Tensor,
) -> Tensor:
    """Return ``relevance`` of a transformer: gradient times activation of the input of its last block.

    ``prefix`` tokens come before those of the ``grid`` of patches.
    """

    def reduce(activation: Tensor, gradient: Tensor) -> Tensor:
        products = (activation * gradient).sum(dim=-1)[0, prefix:]
        if len(products) != grid[0] * grid[1]:
            raise _unknown(tower)
        heat_map: Tensor = products.relu().unflatten(0, grid)
        return heat_map

    with _input(block) as seen:
        return _maps(tower, pixels, directions, seen, reduce)


def grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Return the positive part of the sum of channels (1, C, h, w), weighted by their mean gradients."""
    return (activation * gradient.mean(dim=(2, 3), keepdim=True)).sum(dim=1)[0].relu()


def _of_class_token(weighted: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the class token's row of gradient-weighted attention (1, heads, N, N), as a map of patches."""
    heat_map: Tensor = weighted.relu().mean(dim=1)[0, 0, 1:].unflatten(0, grid)
    return heat_map


def _of_timm(tower: nn.Module, pixels: Tensor, directions: Tensor) -> Tensor:
    parts: Any = tower
    trunk = parts.trunk
    if hasattr(trunk, "patch_embed") and hasattr(trunk, "blocks") and hasattr(trunk, "num_prefix_tokens"):
        grid = trunk.patch_embed.grid_size
        return token_relevance(tower, trunk.blocks[-1], trunk.num_prefix_tokens, grid, pixels, directions)
    if not hasattr(trunk, "forward_features") or not hasattr(trunk, "forward_head"):
        raise _unknown(trunk)
    seen: list[Tensor] = []
    last = getattr(trunk, "output_fmt", "NCHW") == "NHWC"  # timm: where the channels of a feature map are

    def reduce(activation: Tensor, gradient: Tensor) -> Tensor:
        if activation.ndim != 4:
            raise _unknown(trunk)
        return grad_cam(*(tensor.movedim(-1, 1) if last else tensor for tensor in (activation, gradient)))

    return _maps(_Split(tower, seen), pixels, directions, seen, reduce)


class _Split(nn.Module):
    """Run a timm tower and store its last feature map in ``seen``."""

    def __init__(self, tower: nn.Module, seen: list[Tensor]) -> None:
        super().__init__()
        self.tower, self.seen = tower, seen

    def forward(self, pixels: Tensor) -> Tensor:
        parts: Any = self.tower
        self.seen.append(_leaf(parts.trunk.forward_features(pixels)))
        features: Tensor = parts.head(parts.trunk.forward_head(self.seen[-1]))
        return features


def _maps(tower: nn.Module, pixels: Tensor, directions: Tensor, seen: list[Tensor], reduce: Reduce) -> Tensor:
    """Run the tower, which fills ``seen`` with one activation, and backpropagate every cosine to it."""
    tensors = (*tower.named_parameters(), *tower.named_buffers())
    wide = {name: t.detach().float() if t.is_floating_point() else t for name, t in tensors}
    with torch.enable_grad():
        features = pooled(functional_call(tower, wide, (pixels,)))
        cosines = (normalize(features, dim=-1) @ directions.T)[0]
        activation = seen[-1]
        heat_maps = []
        for cosine in cosines:
            (gradient,) = torch.autograd.grad(cosine, activation, retain_graph=True)
            heat_maps.append(reduce(activation.detach(), gradient))
    return torch.stack(heat_maps)


def _leaf(tensor: Tensor) -> Tensor:
    """Start the graph here: earlier layers cost no memory."""
    return tensor.detach().requires_grad_()


@contextmanager
def _output(module: nn.Module) -> Iterator[list[Tensor]]:
    """Make the output of ``module`` a leaf."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        seen.append(_leaf(output))
        return seen[-1]

    handle = module.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def _input(module: nn.Module) -> Iterator[list[Tensor]]:
    """Make the input of ``module`` a leaf."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        seen.append(_leaf(args[0]))
        return (seen[-1], *args[1:]), kwargs

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def _attention(attn: Any) -> Iterator[list[Tensor]]:
    """Make the attention (B, heads, N, N) of a MultiheadAttention a leaf: torch's kernel hides it."""
    seen: list[Tensor] = []

    def hook(module: Any, args: Any, _kwargs: Any, _output: Any) -> Any:
        x = args[0] if module.batch_first else args[0].transpose(0, 1)
        qkv = linear(x, module.in_proj_weight, module.in_proj_bias)
        q, k, v = (
            part.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1)
        )
        seen.append(_leaf((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)))
        answer = module.out_proj((seen[-1] @ v).transpose(1, 2).flatten(2))
        return (answer if module.batch_first else answer.transpose(0, 1), None)

    handle = attn.register_forward_hook(hook, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def _unknown(module: nn.Module) -> UsageError:
    return UsageError(
        f"Where a {type(module).__name__} looks is not known: it has no grid of patches or feature map that "
        "lsn can find.",
        "Take a ViT or a convolutional model.",
    )
