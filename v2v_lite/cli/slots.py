"""`v2v attack questionnaire` and `v2v attack fingerprint`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

import v2v_lite as v2v

from . import base, unseen

__all__ = ["Fingerprint", "Questionnaire"]

Known = Annotated[tuple[str, ...], arg(metavar="NAME=FILE", help_behavior_hint="")]


def own_answers(own: str, slot: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Own texts and their values: a bundled set, or a .jsonl of {"text", "values"}."""
    from ..privacy.questionnaire import SLOTS
    from ..spaces.documents import SETS
    from ..spaces.files import parse_json
    from ..spaces.headers import check_header
    from ..spaces.texts import read_lines

    if own in SETS:
        if slot not in SLOTS:
            raise base.UsageError(f"no slot {slot!r}; there are {', '.join(SLOTS)}")
        rows = v2v.spaces.load_documents(own, "public").rows
        return [d.text for d in rows], [SLOTS[slot](d) for d in rows]
    texts, values = [], []
    for number, line in read_lines(Path(own)):
        where = f"{own}, line {number}"
        entry = check_header(
            parse_json(line, where), {"text": str, "values": list}, where
        )
        texts.append(entry["text"])
        values.append(tuple(map(str, entry["values"])))
    if not texts:
        raise base.UsageError(f"{own}: no own texts; give some with their values")
    return texts, values


@dataclass(frozen=True)
class Questionnaire(base.Command):
    """Ask stolen vectors for one slot: drugs, conditions, age, sums or places."""

    # Stolen rows (.safetensors, .npy), or a bundled set: posts, emails, notes.
    vectors: base.Vectors
    # Folder of `v2v align`, from the stolen rows' encoder to the attacker's.
    translator: base.Folder
    # Own texts of the trade: a bundled set's public part, or FILE.jsonl with "text" and
    # "values" in each line.
    own: str = "notes"
    # What to ask for: drugs, conditions, age, sums or places (own FILE: any).
    slot: str = "drugs"
    # Answers for each row.
    top: int = 5
    # JSON file for all rows' answers.
    out: base.OptionalPath = None

    def run(self) -> base.Result:
        from .. import privacy
        from .attack import bundled_documents

        base.at_least_one(top=self.top)
        if self.out:
            base.checked_out(self.out, self.vectors, self.own, ending=".json")
        model = v2v.align.Translator.load(self.translator)
        if not isinstance(model, v2v.align.LinearTranslator):
            raise base.UsageError(f"{self.translator}: not linear; use `v2v align`")
        texts, values = own_answers(self.own, self.slot)
        documents = bundled_documents(self.vectors, "private")
        if documents:
            rows = v2v.spaces.document_space(documents, model.source_name)
        else:
            rows = v2v.spaces.resolve(self.vectors)
        unseen.warn_of(model, rows)
        own = v2v.spaces.encode(texts, model.target_name, progress=False)
        asker = privacy.Questionnaire.fit(own, values, k=self.top)
        z = privacy.recentre_translator(model, rows, own).translate(rows)
        answers, p = asker.answers(z, self.top), asker.probabilities(z)
        best = p.topk(min(self.top, len(asker.values)), dim=1).values.tolist()
        table = [
            [{"value": v, "p": round(q, 4)} for v, q in zip(*row, strict=True)]
            for row in zip(answers, best, strict=True)
        ]
        result: dict[str, Any] = {"rows": rows.n, "slot": self.slot, "answers": table}
        lines = [f"{rows.n:,} rows, {self.slot}: {len(asker.values)} values known"]
        lines += [
            "  " + ", ".join(f"{one['value']} {one['p']:.2f}" for one in row)
            for row in table[:10]
        ]
        if documents and self.slot in privacy.SLOTS:
            slot = privacy.SLOTS[self.slot]
            texts = ["\n".join(row) for row in answers]
            scored = privacy.text_leakage(
                texts, range(rows.n), documents.rows, privacy.values_found(slot)
            )
            result["scored"] = asdict(scored)
            lines.append(
                f"found {scored.own} of {scored.n} texts' values; the same answers for "
                f"others of the label {scored.control}; gain {scored.gain}"
            )
        if self.out:
            v2v.spaces.write_json(self.out, base.to_jsonable(table))
            lines.append(f"{self.out}: answers for each row")
        return base.Result(result, lines)


@dataclass(frozen=True)
class Fingerprint(base.Command):
    """Name the encoder behind unlabelled rows, or say "unknown"."""

    # Rows: .safetensors, .npy or a bundled name; fifty are enough.
    vectors: base.Vectors
    # Rows of further encoders, NAME=FILE (default: the bundled encoders alone).
    known: Known = ()

    def run(self) -> base.Result:
        from ..privacy import fingerprint

        rows = v2v.spaces.resolve(self.vectors)
        known = {}
        for name in v2v.spaces.NAMES:
            known[name] = fingerprint.Fingerprint.of(v2v.spaces.load(name, "train"))
        for word in self.known:
            name, equals, file = word.partition("=")
            if not (name and equals and file):
                raise base.UsageError(f"known = {word!r}; give NAME=FILE")
            known[name] = fingerprint.Fingerprint.of(v2v.spaces.resolve(file))
        found = fingerprint.name_encoder(rows, known)
        seen = fingerprint.traits(rows.vectors)
        data = {"encoder": found.name, "distances": found.distances, "traits": seen}
        lines = [f"{rows.n:,} rows: {found.name}"]
        lines += [
            f"  {name:<12} distance {far:.2f}" for name, far in found.distances.items()
        ]
        return base.Result(data, lines)
