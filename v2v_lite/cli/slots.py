"""`v2v attack questionnaire` and `v2v attack fingerprint`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

import v2v_lite as v2v

from . import base, unseen

Known = Annotated[tuple[str, ...], arg(metavar="NAME=FILE", help_behavior_hint="")]
LINE = {"text": str, "values": list}


def bundled_documents(name: str, split: str) -> v2v.spaces.Documents | None:
    """A split of the bundled documents of that name; None for another name."""
    from ..spaces.documents import SETS

    return v2v.spaces.load_documents(name, split) if name in SETS else None


@dataclass(frozen=True)
class Stolen(base.Command):
    """What attacks on translated rows share."""

    # Stolen rows (.safetensors, .npy), or a bundled set: posts, emails, notes.
    vectors: base.Vectors
    # Folder of `v2v align`, from the stolen rows' encoder to the attacker's.
    translator: base.Folder
    # JSON file for what is found of all rows.
    out: base.OptionalPath = None

    def load(self, other: str | Path | None) -> tuple[Any, Any, v2v.spaces.Space]:
        """The translator, the documents if they are bundled, and the stolen rows."""
        if self.out:
            base.checked_out(self.out, self.vectors, other, ending=".json")
        model = v2v.align.Translator.load(self.translator)
        documents = bundled_documents(self.vectors, "private")
        if documents:
            rows = v2v.spaces.document_space(documents, model.source_name)
        else:
            rows = v2v.spaces.resolve(self.vectors)
        unseen.warn_of(model, rows)
        return model, documents, rows


def own_answers(own: str, slot: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Own texts and their values: a bundled set, or a .jsonl of {"text", "values"}."""
    from ..spaces import files, texts

    if documents := bundled_documents(own, "public"):
        answers = files.pick(v2v.privacy.SLOTS, slot, "slot")
        return documents.texts, [answers(one) for one in documents]
    entries = [entry for _, entry in texts.read_records(own, LINE)]
    if not entries:
        raise base.UsageError(f"{own}: no own texts; give some with their values")
    return [e["text"] for e in entries], [tuple(map(str, e["values"])) for e in entries]


@dataclass(frozen=True)
class Questionnaire(Stolen):
    """Ask stolen vectors for one slot: drugs, conditions, age, sums or places."""

    # Own texts of the trade: a bundled set's public part, or FILE.jsonl with "text" and
    # "values" in each line.
    own: str = "notes"
    # What to ask for: drugs, conditions, age, sums or places (own FILE: any).
    slot: str = "drugs"
    # Answers for each row.
    top: int = 5

    def run(self) -> base.Result:
        from .. import privacy, spaces

        base.at_least_one(top=self.top)
        model, private, rows = self.load(self.own)
        if not isinstance(model, v2v.align.LinearTranslator):
            raise base.UsageError(f"{self.translator}: not linear; use `v2v align`")
        texts, values = own_answers(self.own, self.slot)
        own = spaces.encode(texts, model.target_name, progress=False)
        asker = privacy.Questionnaire.fit(own, values, k=self.top)
        z = privacy.recentre_translator(model, rows, own).translate(rows)
        answers, p = asker.answers(z, self.top), asker.probabilities(z)
        best = p.topk(len(answers[0]), dim=1).values.tolist()
        table = [
            [{"value": v, "p": q} for v, q in zip(*row, strict=True)]
            for row in zip(answers, best, strict=True)
        ]
        result: dict = {"rows": rows.n, "slot": self.slot, "answers": table}
        lines = [f"{rows.n:,} rows, {self.slot}: {len(asker.values)} values known"]
        for row in table[:10]:
            lines.append("  " + ", ".join(f"{v['value']} {v['p']:.2f}" for v in row))
        if private and self.slot in privacy.SLOTS:
            measure = privacy.values_found(privacy.SLOTS[self.slot])
            said = ["\n".join(row) for row in answers]
            found = privacy.text_leakage(said, range(rows.n), private.rows, measure)
            result["scored"] = asdict(found)
            others = f"others of the label {found.control}; gain {found.gain}"
            fact = f"found {found.own} of {found.n} texts' values"
            lines.append(f"{fact}; the same answers for {others}")
        if self.out:
            spaces.write_json(self.out, base.to_jsonable(table))
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
        files = [(n, v2v.spaces.load(n, "train")) for n in v2v.spaces.NAMES]
        for word in self.known:
            name, _, file = word.partition("=")
            if not (name and file):
                raise base.UsageError(f"known = {word!r}; give NAME=FILE")
            files.append((name, v2v.spaces.resolve(file)))
        known = {name: fingerprint.Fingerprint.of(space) for name, space in files}
        found = fingerprint.name_encoder(rows, known)
        data: dict = {"encoder": found.name, "distances": found.distances}
        data["traits"] = fingerprint.traits(rows.vectors)
        far = [f"  {n:<12} distance {d:.2f}" for n, d in found.distances.items()]
        return base.Result(data, [f"{rows.n:,} rows: {found.name}", *far])
