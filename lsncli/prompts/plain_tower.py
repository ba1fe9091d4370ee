"""Run any text encoder unchanged: prompts of full length, learned vectors in place of word embeddings.

Nothing about the encoder is assumed, so no work can be saved: its input is what its own tokenizer would give
for the prompt, except that some embeddings are learned.
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
    """Token ids (N, L) and their embeddings (N, L, W) -> features (N, D), not normalised; L is
    ``vocabulary.longest``."""
    pad: int
    """The token that pads a prompt to L."""
    placeholder: int
    """An ordinary token as the id of a learned vector: it must not end or pad a text."""
    why: str
    """The reason not to use the fast tower, as a clause."""

    @property
    def kernel(self) -> str:
        """``torch``, always."""
        return "torch"

    @property
    def path(self) -> str:
        """``plain`` and the reason."""
        return f"plain ({self.why})"

    @property
    def device(self) -> torch.device:
        """Device of the encoder."""
        return self.vocabulary.embedding.device

    def encoder(self, layout: PromptLayout, *, raw: bool = False) -> Encoder:
        """Return the function from contexts to text features; see ``layout.TextTower``."""
        ids = self._ids(layout)
        frozen = self.vocabulary.embedding[ids]
        slots = [
            (row, position, ~token)
            for row, prompt in enumerate(layout.prompts)
            for position, token in enumerate(prompt)
            if token < 0
        ]
        learned_positions = torch.tensor(slots, dtype=torch.long, device=self.device).reshape(len(slots), 3)
        rows, positions, vectors = learned_positions.unbind(1)

        def encode(contexts: Tensor) -> Tensor:
            groups = len(contexts)
            learned = contexts[:, rows, vectors] if layout.specific else contexts[:, vectors]
            embeddings = frozen.repeat(groups, 1, 1, 1)
            embeddings[:, rows, positions] = learned.to(embeddings.dtype)
            features = self.run(ids.repeat(groups, 1), embeddings.flatten(0, 1)).float()
            return (features if raw else normalize(features, dim=-1)).view(groups, len(ids), -1)

        return encode

    def activation_bytes(self, layout: PromptLayout) -> int:
        """Estimate the bytes that one context of ``layout`` saves for its gradient."""
        return len(layout.prompts) * self._bytes_a_prompt

    @cached_property
    def _bytes_a_prompt(self) -> int:
        """Measured: the bytes that a second prompt adds to autograd's saved tensors; weights count once."""
        return self._saved_bytes(2) - self._saved_bytes(1)

    def _saved_bytes(self, prompts: int) -> int:
        """Bytes of the distinct storages saved for the gradient of this many prompts."""
        saved: dict[int, Tensor] = {}  # holding the tensors, so that no address is used twice

        def remember(tensor: Tensor) -> Tensor:
            saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
            return tensor

        shape = (prompts, self.vocabulary.longest)
        ids = torch.full(shape, self.placeholder, device=self.device)
        embeddings = torch.zeros(*shape, self.vocabulary.width, device=self.device, requires_grad=True)
        with torch.enable_grad(), saved_tensors_hooks(remember, lambda tensor: tensor):
            self.run(ids, embeddings)
        return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())

    def _ids(self, layout: PromptLayout) -> Tensor:
        """Token ids (C, L): every prompt padded, placeholders for learned vectors."""
        ids = torch.full((len(layout.prompts), self.vocabulary.longest), self.pad)
        for row, prompt in zip(ids, layout.prompts, strict=True):
            row[: len(prompt)] = torch.tensor([self.placeholder if token < 0 else token for token in prompt])
        return ids.to(self.device)
