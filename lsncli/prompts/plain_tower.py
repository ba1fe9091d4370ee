"""Any text encoder as it is: whole prompts of full length, learned vectors in the place of words.

Nothing about the encoder is assumed, so nothing can be saved: it sees what its own tokenizer would have made
of the prompt, only that some embeddings are not those of words.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import normalize

from lsncli.prompts.layout import Encoder, PromptLayout, Vocabulary


@dataclass(frozen=True)
class PlainTower:
    """A text encoder behind one function; made in ``backbones/text.py``."""

    vocabulary: Vocabulary
    run: Callable[[Tensor, Tensor], Tensor]
    """Token ids (N, L) and the embeddings (N, L, W) to take for them -> features (N, D), not normalised; L is
    ``vocabulary.longest``."""
    pad: int
    """The token that fills a prompt up to L."""
    placeholder: int
    """An ordinary token that stands among the ids for a learned vector: it must not end or pad a text."""
    why: str
    """Why not the fast tower, as a clause."""

    @property
    def kernel(self) -> str:
        return "torch"

    @property
    def path(self) -> str:
        return f"plain ({self.why})"

    @property
    def device(self) -> torch.device:
        return self.vocabulary.embedding.device

    def encoder(self, layout: PromptLayout) -> Encoder:
        """Contexts -> unit text features; see ``tower.Encoder``."""
        ids = self._ids(layout)
        frozen = self.vocabulary.embedding[ids]
        slots = [
            (row, place, ~token)
            for row, prompt in enumerate(layout.prompts)
            for place, token in enumerate(prompt)
            if token < 0
        ]
        learned_places = torch.tensor(slots, dtype=torch.long, device=self.device).reshape(len(slots), 3)
        rows, places, vectors = learned_places.unbind(1)

        def encode(contexts: Tensor) -> Tensor:
            groups = len(contexts)
            learned = contexts[:, rows, vectors] if layout.specific else contexts[:, vectors]
            embeddings = frozen.repeat(groups, 1, 1, 1)
            embeddings[:, rows, places] = learned.to(embeddings.dtype)
            features = self.run(ids.repeat(groups, 1), embeddings.flatten(0, 1)).float()
            return normalize(features, dim=-1).view(groups, len(ids), -1)

        return encode

    def activation_bytes(self, layout: PromptLayout) -> int:
        """About how many bytes one context of ``layout`` keeps for its gradient."""
        return len(layout.prompts) * self._bytes_a_prompt

    @cached_property
    def _bytes_a_prompt(self) -> int:
        """Measured: what a second prompt adds to what autograd keeps; weights and masks are there once."""
        return self._kept(2) - self._kept(1)

    def _kept(self, prompts: int) -> int:
        """Bytes of the distinct pieces of memory that the gradient of this many prompts needs."""
        kept: dict[int, Tensor] = {}  # holding the tensors, so that no address is used twice

        def remember(tensor: Tensor) -> Tensor:
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
            return tensor

        shape = (prompts, self.vocabulary.longest)
        ids = torch.full(shape, self.placeholder, device=self.device)
        embeddings = torch.zeros(*shape, self.vocabulary.width, device=self.device, requires_grad=True)
        with torch.enable_grad(), saved_tensors_hooks(remember, lambda tensor: tensor):
            self.run(ids, embeddings)
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())

    def _ids(self, layout: PromptLayout) -> Tensor:
        """(C, L): every prompt padded, placeholders where vectors will stand."""
        ids = torch.full((len(layout.prompts), self.vocabulary.longest), self.pad)
        for row, prompt in zip(ids, layout.prompts, strict=True):
            row[: len(prompt)] = torch.tensor([self.placeholder if token < 0 else token for token in prompt])
        return ids.to(self.device)
