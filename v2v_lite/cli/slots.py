"""`v2v attack questionnaire` and `v2v attack fingerprint`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

import v2v_lite as v2v

from . import base, unseen

__all__ = ["Fingerprint", "Questionnaire"]

Known = Annotated[tuple[str, ...], arg(metavar="NAME=FILE", help_behavior_hint="")]
LINE = {"text": str, "values": list}


def own_answers(own: str, slot: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Own texts and their values: a bundled set, or a .jsonl of {"text", "values"}."""
    from ..spaces import documents, files, headers, texts

    if own in documents.SETS:
        known = v2v.privacy.SLOTS
        if slot not in known:
            raise base.UsageError(f"no slot {slot!r}; there are {', '.join(known)}")
        rows = documents.load_documents(own, "public").rows
        return [d.text for d in rows], [known[slot](d) for d in rows]
    entries = [
        headers.check_header(files.parse_json(line, own), LINE, f"{own}, line {number}")
        for number, line in texts.read_lines(Path(own))
    ]
    if not entries:
        raise base.UsageError(f"{own}: no own texts; give some with their values")
    return [e["text"] for e in entries], [tuple(map(str, e["values"])) for e in entries]


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
        from .. import privacy, spaces

        base.at_least_one(top=self.top)
        if self.out:
            base.checked_out(self.out, self.vectors, self.own, ending=".json")
        model = v2v.align.Translator.load(self.translator)
        if not isinstance(model, v2v.align.LinearTranslator):
            raise base.UsageError(f"{self.translator}: not linear; use `v2v align`")
        texts, values = own_answers(self.own, self.slot)
        private = None
        if self.vectors in spaces.documents.SETS:
            private = spaces.load_documents(self.vectors, "private")
            rows = spaces.document_space(private, model.source_name)
        else:
            rows = spaces.resolve(self.vectors)
        unseen.warn_of(model, rows)
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
            lines.append(
                f"found {found.own} of {found.n} texts' values; the same answers for "
                f"others of the label {found.control}; gain {found.gain}"
            )
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
        lines = [f"{rows.n:,} rows: {found.name}"]
        lines += [f"  {n:<12} distance {far:.2f}" for n, far in found.distances.items()]
        return base.Result(data, lines)
