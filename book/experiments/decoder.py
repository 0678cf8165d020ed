"""The decoder of MiniLM's vectors, trained on public texts: what it costs in nats.

Texts are sentences of Wikipedia (CC BY-SA, the sentences behind `data/wiki`), titles of
ICD-10-CM (public domain) and the public documents: whole, by sentence, and by two or
three sentences. Both files of texts are given by name; without them the documents alone
are used. Every twentieth public document is held out. Training goes on where it was
stopped, and the best average of the weights is what is kept.

    python -m experiments decoder --write --set wiki=texts.jsonl.gz --set icd=titles.txt
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from v2v_lite.privacy.decoder import Decoder, DecoderConfig, Noise, padded
from v2v_lite.privacy.pieces import Pieces
from v2v_lite.spaces import (
    document_space,
    encoder_pieces,
    load,
    load_documents,
    open_encoder,
)
from v2v_lite.spaces.files import atomic
from v2v_lite.spaces.headers import read_tensors, write_tensors
from v2v_lite.teaching import results

from .inverted import SETS
from .recheck import Recheck
from .short_texts import sentences

DATASETS = ("wiki", "documents/posts", "documents/emails", "documents/notes")
PARTS = ()


@dataclass(frozen=True)
class Plan:
    """What is trained; the defaults are the book's. `steps` may grow later."""

    encoder: str = "minilm"
    wiki: str = ""
    icd: str = ""
    longest: int = 24
    spans: int = 5_000
    titles: int = 2_000
    steps: int = 2_400
    batch: int = 16
    lr: float = 1.5e-3
    seed: int = 0


FULL = Plan()
QUICK = Plan(spans=20, steps=12)
SHARES = {"documents": 0.8, "wiki": 0.17, "icd": 0.03}


def held_out(i: int) -> bool:
    """Whether the i-th public document of a set is kept from the decoder."""
    return i % 20 == 7


def corpus(plan: Plan, folder: Path) -> dict[str, tuple[list[str], Tensor, Tensor]]:
    """By kind: texts, vectors `(n, d)`, and the number of the set each belongs to."""
    path = folder / f"vectors-{plan.spans}-{plan.titles}.safetensors"
    texts = {kind: kind_texts(plan, kind) for kind in (*SETS, "icd")}
    if not path.is_file():
        encode = open_encoder(plan.encoder, half=True)
        rows = {kind: encode(some) for kind, some in texts.items() if some}
        with atomic(path) as temporary:
            write_tensors(temporary, {k: row.half() for k, row in rows.items()}, {})
    vectors = {key: row.float() for key, row in read_tensors(path)[0].items()}
    found = {}
    for kind in SETS:
        public = load_documents(kind, "public")
        whole = [i for i in range(len(public)) if not held_out(i)]
        texts[kind] += [public[i].text for i in whole]
        stored = document_space(public, plan.encoder).vectors[whole]
        found[kind] = texts[kind], torch.cat([vectors[kind], stored])
    if plan.icd:
        found["icd"] = texts["icd"], vectors["icd"]
    if plan.wiki:
        with gzip.open(plan.wiki, "rt", encoding="utf-8") as file:
            every = [json.loads(line)["text"] for line in file]
        keep = [i for i, t in enumerate(every) if len(t.split()) <= plan.longest]
        stored = load(plan.encoder, "all").vectors[keep]
        found["wiki"] = [every[i] for i in keep], stored
    return found


def kind_texts(plan: Plan, kind: str) -> list[str]:
    """The texts of a kind that have to be encoded."""
    generator = torch.Generator().manual_seed(plan.seed)
    if kind == "icd":
        if not plan.icd:
            return []
        lines = Path(plan.icd).read_text("utf-8").splitlines()
        return [
            lines[i]
            for i in torch.randperm(len(lines), generator=generator)[: plan.titles]
        ]
    single, several = [], []
    for i, document in enumerate(load_documents(kind, "public")):
        parts = sentences(document.text)
        if held_out(i) or len(parts) < 2:
            continue
        single += parts
        for n in (2, 3):
            several += [" ".join(parts[j : j + n]) for j in range(len(parts) - n)]
    order = torch.randperm(len(several), generator=generator)[: plan.spans // len(SETS)]
    return list(dict.fromkeys(single + [several[i] for i in order]))


def begin(plan: Plan, data: dict, config: DecoderConfig) -> Decoder:
    """An untrained decoder: pieces by their counts, each where its own vector lies."""
    texts = [text for some, _ in data.values() for text in some]
    pieces = Pieces.chosen(texts, encoder_pieces(plan.encoder), config.rare)
    torch.manual_seed(plan.seed)
    centre = torch.stack([rows.mean(0) for _, rows in data.values()]).mean(0)
    model = Decoder(pieces, centre, config, plan.encoder)
    encode = open_encoder(plan.encoder, half=True)
    model.start_from(encode([w.removeprefix("##") or "." for w in pieces.words]))
    return model


@dataclass
class Trainer:
    """Training that is written down every minute."""

    plan: Plan
    folder: Path
    model: Decoder
    average: dict[str, Tensor]
    optimiser: torch.optim.AdamW
    step: int = 0

    def save(self) -> None:
        """All that is needed to go on, as tensors."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{key}": value for key, value in state.items()}
        tensors = {key: value.detach().clone() for key, value in tensors.items()}
        with atomic(self.folder / "training.safetensors") as temporary:
            write_tensors(temporary, tensors, {"step": self.step})

    def restore(self) -> None:
        """Go on where the last training was stopped."""
        path = self.folder / "training.safetensors"
        if not path.is_file():
            return
        tensors, about = read_tensors(path)
        self.step = about["step"]
        parts: dict[str, dict] = {"model": {}, "average": {}, "adam": {}}
        for key, value in tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = value
        self.model.load_state_dict(parts["model"])
        self.average = parts["average"]
        state: dict[int, dict] = {}
        for key, value in parts["adam"].items():
            i, name = key.split(".")
            state.setdefault(int(i), {})[name] = value
        old = self.optimiser.state_dict()
        self.optimiser.load_state_dict(
            {"state": state, "param_groups": old["param_groups"]}
        )

    def rows(self, data: dict) -> dict[str, Tensor]:
        """The pieces of all texts, looked up once."""
        path = self.folder / "pieces.safetensors"
        if not path.is_file():
            pieces, longest = self.model.vocabulary, self.model.config.words
            found = {
                k: padded(pieces, texts, longest) for k, (texts, _) in data.items()
            }
            with atomic(path) as temporary:
                write_tensors(temporary, {k: r.int() for k, r in found.items()}, {})
        return {key: row.long() for key, row in read_tensors(path)[0].items()}

    def train(self, data: dict, check: dict) -> list[dict]:
        """Steps until the plan's number; a line of held-out losses now and then."""
        plan, config, log = self.plan, self.model.config, []
        rows = self.rows(data)
        if not self.step:  # begin with how frequent each piece is
            every = torch.cat([row[row >= 0] for row in rows.values()])
            count = every.bincount(minlength=len(self.model.bias))
            self.model.bias.data = ((count + 1) / len(every)).log()
            self.average["bias"] = self.model.bias.detach().clone()
        noise = {key: Noise.of(vectors) for key, (_, vectors) in data.items()}
        shares = torch.tensor(
            [SHARES.get(key, SHARES["documents"] / 3) for key in data]
        )
        kinds, clock, started = list(data), time.time(), time.time()
        self.model.train()
        while self.step < plan.steps:
            torch.manual_seed(plan.seed + 1000 * self.step)
            kind = kinds[int(torch.multinomial(shares, 1))]
            some = torch.randint(len(rows[kind]), (plan.batch,))
            rate = min(1, (self.step + 1) / 100) * (1 - self.step / plan.steps)
            for group in self.optimiser.param_groups:
                group["lr"] = plan.lr * max(rate, 0.05)
            z = noise[kind](data[kind][1][some], config)
            with torch.autocast("cpu", torch.bfloat16):
                loss = self.model.loss(z, rows[kind][some])
            self.optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            self.step += 1
            decay = min(0.995, 1 - 1 / (1 + self.step / 4))
            for key, value in self.model.state_dict().items():
                self.average[key].lerp_(value, 1 - decay)
            if time.time() - clock > 60 or self.step == plan.steps:
                self.save()
                clock = time.time()
            if self.step % 250 == 0 or self.step == plan.steps:
                log.append({"step": self.step} | self.losses(check))
                line = " ".join(f"{k} {v:.3f}" for k, v in log[-1].items())
                print(
                    f"{time.time() - started:.0f} s: train {loss.item():.3f} {line}",
                    flush=True,
                )
        return log

    def averaged(self) -> Decoder:
        """A decoder of the averaged weights."""
        model = Decoder(
            self.model.vocabulary,
            self.model.centre,
            self.model.config,
            self.plan.encoder,
        )
        model.load_state_dict(self.average)
        return model.eval()

    @torch.no_grad()
    def losses(self, check: dict) -> dict[str, float]:
        """Nats per piece of the averaged weights on held-out texts, clean vectors."""
        return losses_of(self.averaged(), check)


@torch.no_grad()
def losses_of(model: Decoder, check: dict) -> dict[str, float]:
    """By set: nats per piece on held-out documents, of their vectors and of others'."""
    found = {}
    for kind, (texts, vectors) in check.items():
        rows = padded(model.vocabulary, texts, model.config.words)
        found[kind] = model.loss(vectors, rows).item()
        found[f"{kind}_other"] = model.loss(vectors.roll(1, 0), rows).item()
    return found


def check_set(plan: Plan) -> dict[str, tuple[list[str], Tensor]]:
    """The held-out public documents of each set."""
    found = {}
    for kind in SETS:
        public = load_documents(kind, "public")
        some = [i for i in range(len(public)) if held_out(i)]
        vectors = document_space(public, plan.encoder).vectors[some]
        found[kind] = [public[i].text for i in some], vectors
    return found


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 1
) -> tuple[dict, list[str]]:
    """Train in `work`, write the decoder, and say what it costs."""
    folder = work / "decoder"
    folder.mkdir(parents=True, exist_ok=True)
    data, config = corpus(plan, folder), DecoderConfig()
    start = folder / "start.safetensors"
    if not start.is_file():
        begin(plan, data, config).save(start)
    model = Decoder.load(start, plan.encoder)
    optimiser = torch.optim.AdamW(model.parameters(), plan.lr, weight_decay=0.02)
    average = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = Trainer(plan, folder, model, average, optimiser)
    trainer.restore()
    check = check_set(plan)
    trainer.train(data, check)
    kept = trainer.averaged()
    path = folder / "decoder.safetensors"
    kept.save(path)
    table = {
        "file": path.name, "bytes": path.stat().st_size, "steps": trainer.step,
        "pieces": len(kept.vocabulary.words),
        "parameters": sum(p.numel() for p in kept.parameters()),
        "texts": {key: len(texts) for key, (texts, _) in data.items()},
        "held_out": {key: len(texts) for key, (texts, _) in check.items()},
        "nats": losses_of(Decoder.load(path), check),
    }  # fmt: skip
    return table, []


def lines(table: dict) -> list[str]:
    """The table in words."""
    nats = " · ".join(f"{key} {value:.2f}" for key, value in table["nats"].items())
    return [
        f"{table['parameters']:,} parameters, {table['steps']:,} steps: {nats} nats"
    ]


def recheck(table: dict, work: Path) -> Recheck:
    """The shipped file on the held-out documents again."""
    model = Decoder.load(results.results_folder() / table["file"], FULL.encoder)
    found = losses_of(model, check_set(FULL))
    return Recheck(
        "nats per piece on held-out documents", table["nats"], found,
        {key: 0.01 for key in found}, "a hundredth of a nat",
    )  # fmt: skip
