"""`v2v attack inversion`: texts from vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .base import Command, plain, rows_of, say

if TYPE_CHECKING:
    from ..privacy import EncoderScorer, Proposal
    from ..spaces import Space


@dataclass(frozen=True)
class Inversion(Command):
    """Write a likely text for each vector, guided by an encoder that you own."""

    vectors: str
    """In the encoder's space, or the translator's source: .safetensors, .npy, name."""
    own: str = "notes"
    """Texts of the same kind: a file, or the public part of posts, emails or notes."""
    encoder: str = "minilm"
    """The encoder you own: short name, hub name owner/model, or a model's folder."""
    translator: Path | None = None
    """Folder of `v2v align`: translate the vectors first."""
    lm: str | None = None
    """Hub name or folder of a causal language model (default: words of OWN)."""
    rows: int | None = None
    """Only the first of the vectors."""
    beam: int = 8
    """Beginnings of a text kept at each step."""
    words: int | None = None
    """Longest text (default: the median length of OWN)."""
    out: Path = Path("runs/inversion.json")
    """File to write."""

    def run(self) -> None:
        from ..privacy import CausalLM, NgramLM, SearchConfig, Stopped, invert, tokens
        from ..spaces import DataError

        if self.rows is not None and self.rows < 1:
            raise DataError(f"rows = {self.rows}, but at least 1 is needed")
        texts = self._own()
        lengths = sorted(len(tokens(text)) for text in texts)
        words = lengths[len(lengths) // 2] if self.words is None else self.words
        config = SearchConfig(beam=self.beam, words=words)
        proposal = CausalLM(self.lm) if self.lm else NgramLM.fit(texts)
        vectors = rows_of(self.vectors)
        scorer, own = self._scorer(proposal, texts)
        if self.translator:
            vectors = self._translated(vectors, own)
        some = vectors.vectors[: self.rows]
        try:
            found = invert(some, proposal, scorer, config, progress=True)
        except Stopped as stop:
            self._write(stop.found)
            raise KeyboardInterrupt(f"{stop}; they are in {self.out}") from None
        self._write(found)
        self.give(
            {"out": self.out, "texts": [asdict(one) for one in found]},
            [f"{one.cosine:.2f}  {one.text}" for one in found],
        )
        say(f"{self.out} is written")

    def _own(self) -> list[str]:
        from ..spaces import load_documents, read_texts
        from ..spaces.documents import SETS

        if self.own in SETS:
            return load_documents(self.own, "public").texts
        return read_texts(Path(self.own))

    def _scorer(
        self, proposal: Proposal, texts: list[str]
    ) -> tuple[EncoderScorer, Space]:
        from ..privacy import EncoderScorer
        from ..spaces import encode

        def rows(some):
            return encode(some, self.encoder, 128, progress=len(some) > 2000).vectors

        own = encode(texts, self.encoder, 128)
        if self.lm:  # its tokens are no words: every candidate is encoded
            return EncoderScorer(rows, own.mean), own
        return EncoderScorer.fit(proposal.words, rows, texts, own), own

    def _translated(self, vectors: Space, own: Space) -> Space:
        from ..align import Translator
        from ..privacy.scorer import recentre_rows

        model = Translator.load(self.translator)
        moved = recentre_rows(model.translate(vectors), own.vectors)
        return replace(vectors, vectors=moved, mean=None)

    def _write(self, found: list) -> None:
        from ..spaces import write_json

        write_json(self.out, plain([asdict(one) for one in found]))
