"""How often each probe is wrong on real models that answer as they should, and on what a breaker
makes of the same answers.

    make probe-rates                                            # every model, 200 runs each
    .venv/bin/python tests/probe_rates/rates.py --runs 20 --models smol
    .venv/bin/python tests/probe_rates/rates.py --runs 0      # only judge what was recorded

Each run asks other questions (`questions(seed)`). What the models answer is kept under
.cache/probe-rates, so a later call goes on where one ended, and judges anew without a model. The
rates are written into cluster/probes/thresholds.toml and docs/probes.md.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
from real_models import MODELS, Real, Serving

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

from broken_replies import FAULTS, rewritten  # noqa: E402

from cluster.probes.exchange import ProbeReply, ProbeRequest  # noqa: E402
from cluster.probes.judges import judge  # noqa: E402
from cluster.probes.questions import questions  # noqa: E402
from cluster.probes.rounds import probe_rounds  # noqa: E402
from cluster.probes.thresholds import THRESHOLDS, Detection, Trial  # noqa: E402

PAGE = ROOT / "docs/probes.md"
MARK = "# ---- measured: written by `make probe-rates`\n"
TABLE = ("<!-- rates -->\n", "<!-- end of rates -->\n")
SECONDS = 600
# Runs whose longer answers are asked for at the same time, which a small model does faster.
BATCH = 8
# Tokens whose probabilities llama.cpp lists; another one counts as the least likely of them.
LISTED = 200
DAMAGED = "damaged weights"
# One byte of so many, after the file's header and vocabulary.
DAMAGE_EVERY = 2000


# ---- asking


def send(url: str, request: ProbeRequest) -> ProbeReply:
    """The reply to one request; llama.cpp closes idle connections, so each has its own."""
    begin = time.monotonic()
    with httpx.Client(base_url=url, timeout=SECONDS, trust_env=False) as client:
        if request.id == "passage":
            return ProbeReply("passage", 200, passage(client, (request.body or {})["prompt"]))
        reply = client.post(request.path, json=dict(request.body or {}))
    lines = [line for line in reply.text.splitlines() if line.startswith("data:")]
    events = tuple(line[5:].strip() for line in lines) if request.stream else ()
    body = "" if request.stream and reply.status_code == 200 else reply.text
    return ProbeReply(request.id, reply.status_code, body, events, time.monotonic() - begin)


def passage(client: httpx.Client, text: str) -> str:
    """A completion with the log-probabilities of its prompt, as SGLang gives them at once and
    llama.cpp token by token."""
    content = {"content": text, "add_special": True}
    tokens = client.post("/tokenize", json=content).json()["tokens"]
    logprobs: list[float | None] = [None]
    for place in range(1, len(tokens)):
        body = {"prompt": tokens[:place], "n_predict": 1, "n_probs": LISTED, "cache_prompt": True}
        reply = client.post("/completion", json=body).json()
        listed = reply["completion_probabilities"][0]["top_logprobs"]
        # Of damaged weights they may be NaN, which JSON lacks.
        by_id = {one["id"]: one["logprob"] for one in listed if one["logprob"] is not None}
        logprobs.append(by_id.get(tokens[place], min(by_id.values(), default=None)))
    return json.dumps({"choices": [{"text": "", "logprobs": {"token_logprobs": logprobs}}]})


def ask(url: str, model: Real, seeds: Sequence[int]) -> Iterator[tuple[int, list[ProbeReply]]]:
    """The replies of several runs. The short questions are asked as in a deploy: one after the
    other, then among eight at once; the others of all runs at the same time."""
    runs = {seed: probe_rounds(model.abilities, "m", questions(seed)) for seed in seeds}
    about = {seed: questions(seed) for seed in seeds}
    with ThreadPoolExecutor(BATCH) as threads:

        def all_of(chosen: Callable[[int, ProbeRequest], bool]) -> list[tuple[int, ProbeReply]]:
            asked = [
                (seed, request)
                for seed, rounds in runs.items()
                for one in rounds
                for request in one.requests
                if not one.together and chosen(seed, request)
            ]
            return list(threads.map(lambda x: (x[0], send(url, x[1])), asked))

        def short(seed: int, request: ProbeRequest) -> bool:
            listed = about[seed].continuations if model.abilities.basic else about[seed].short
            return request.id in {question.id for question in listed}

        replies = all_of(lambda seed, request: not short(seed, request))
        for seed, rounds in runs.items():
            for one in rounds:
                if one.together:
                    replies += [
                        (seed, r) for r in threads.map(lambda q: send(url, q), one.requests)
                    ]
                else:
                    alone = [request for request in one.requests if short(seed, request)]
                    replies += [(seed, send(url, request)) for request in alone]
    for seed in seeds:
        yield seed, [reply for of, reply in replies if of == seed]


def recorded(file: Path) -> dict[int, list[ProbeReply]]:
    """The runs in a file, by seed; a line that a killed call left half is passed over."""
    runs = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            run = json.loads(line)
        except ValueError:
            continue
        runs[run["seed"]] = msgspec.convert(run["replies"], type=list[ProbeReply])
    return runs


def record(model: Real, file: Path, weights: Callable[[], Path], wanted: int) -> None:
    """Ask the model until so many runs are in the file."""
    missing = [seed for seed in range(wanted) if seed not in recorded(file)]
    if not missing:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Serving(weights(), port) as url, file.open("a") as opened:
        for place in range(0, len(missing), BATCH):
            begin = time.monotonic()
            for seed, replies in ask(url, model, missing[place : place + BATCH]):
                run = {"seed": seed, "replies": msgspec.to_builtins(replies)}
                opened.write(json.dumps(run) + "\n")
                opened.flush()
            done = min(place + BATCH, len(missing))
            taken = time.monotonic() - begin
            print(f"{file.parent.name}: {done} of {len(missing)}, {taken:.0f} s", flush=True)


def damaged(model: Real) -> Path:
    """The model's file with some bytes of its tensors at random; the same at each call."""
    file = model.where / "damaged.gguf"
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model.weights(), file)
    draw, size = random.Random(1), file.stat().st_size
    with file.open("r+b") as opened:
        for place in range(size * 3 // 10, size, DAMAGE_EVERY):
            opened.seek(place)
            opened.write(bytes([draw.randrange(256)]))
    return file


# ---- judging


def wrong_probes(model: Real, replies: Sequence[ProbeReply], seed: int) -> list[str]:
    """The names of the probes that are wrong."""
    verdicts = judge(model.abilities, replies, about=questions(seed))
    return [verdict.name for verdict in verdicts if verdict.outcome == "wrong"]


def unchanged(id: str, fields: dict[str, Any]) -> None:
    """Changes no answer."""


def rates(models: Sequence[Real], *, explain: bool) -> tuple[list[Trial], list[Detection]]:
    """What the recorded runs of all models give."""
    trials, detections = [], []
    for model in models:
        runs = recorded(model.where / "replies.jsonl")
        counts: dict[str, Counter[str]] = {}
        for seed, replies in sorted(runs.items()):
            for verdict in judge(model.abilities, replies, about=questions(seed)):
                counts.setdefault(verdict.name, Counter())[verdict.outcome] += 1
                if explain and verdict.outcome == "wrong":
                    print(f"{model.name}, run {seed}: {verdict.name}: {verdict.why}")
                    print(f"    {verdict.question!r}\n    {verdict.answer!r}")
        for probe, count in counts.items():
            judged = count["right"] + count["wrong"]
            if judged:
                trials.append(Trial(probe, model.name, "real model", judged, count["wrong"]))
        damage = recorded(model.where / "damaged.jsonl")
        changed = {DAMAGED: damage} if damage else {}
        for fault in FAULTS:
            broken = {seed: fault(replies, seed) for seed, replies in runs.items()}
            # What it leaves as it was is no fault: a model without tools has no calls.
            changed[fault.name] = {
                seed: replies
                for seed, replies in broken.items()
                if replies not in (runs[seed], [rewritten(r, unchanged) for r in runs[seed]])
            }
        for name, broken in changed.items():
            by: Counter[str] = Counter()
            caught = 0
            for seed, replies in broken.items():
                wrong = wrong_probes(model, replies, seed)
                by.update(wrong)
                caught += bool(wrong)
            if broken:
                detections.append(Detection(name, model.name, len(broken), caught, dict(by)))
    return trials, detections


def bound(alarms: int, runs: int) -> float:
    """The upper end of the one-sided 95 % interval of a share (Clopper and Pearson)."""
    from scipy.stats import beta

    return 1.0 if alarms == runs else float(beta.ppf(0.95, alarms + 1, runs - alarms))


def page(trials: Sequence[Trial], detections: Sequence[Detection]) -> str:
    """The two tables of docs/probes.md."""
    lines = [
        "| probe | real model | runs | false alarms | at most (95 %) |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for t in trials:
        upper = f"{100 * bound(t.alarms, t.runs):.1f} %"
        lines.append(f"| {t.probe} | {t.on} | {t.runs} | {t.alarms} | {upper} |")
    faults = {fault.name: fault.what for fault in FAULTS}
    faults[DAMAGED] = f"one byte in {DAMAGE_EVERY} of the weights at random, then served"
    lines += [
        "",
        "| fault | what it does | model | caught | by |",
        "| --- | --- | --- | ---: | --- |",
    ]
    for name, what in faults.items():
        for d in (d for d in detections if d.fault == name):
            ordered = sorted(d.by.items(), key=lambda pair: (-pair[1], pair[0]))
            by = ", ".join(f"{probe} {n}" for probe, n in ordered)
            lines.append(f"| {name} | {what} | {d.on} | {d.caught} of {d.runs} | {by or '-'} |")
    return "\n".join(lines) + "\n"


def write(trials: Sequence[Trial], detections: Sequence[Detection]) -> None:
    """The rates into thresholds.toml and docs/probes.md."""
    head = THRESHOLDS.read_text().split(MARK)[0]
    tables = [MARK, "\n[measured]\n"]
    for name, rows in (("trials", trials), ("detections", detections)):
        lines = [f"  {toml(msgspec.to_builtins(row))},\n" for row in rows]
        tables += [f"{name} = [\n", *lines, "]\n"]
    THRESHOLDS.write_text(head + "".join(tables))
    before, rest = PAGE.read_text().split(TABLE[0])
    PAGE.write_text(
        before + TABLE[0] + page(trials, detections) + TABLE[1] + rest.split(TABLE[1])[1]
    )


def toml(value: Any) -> str:
    """Texts, counts and tables of them as TOML writes them on one line."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return json.dumps(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=200, help="of each model")
    parser.add_argument("--damaged", type=int, default=20, help="of each with damaged weights")
    parser.add_argument("--models", default="", help="only those with this in their name")
    parser.add_argument("--explain", action="store_true", help="print each false alarm")
    parser.add_argument("--keep", action="store_true", help="leave thresholds.toml and the page")
    given = parser.parse_args()
    chosen = [model for model in MODELS if given.models.lower() in model.name.lower()]
    for model in chosen:
        record(model, model.where / "replies.jsonl", model.weights, given.runs)
        if given.runs:
            breaks = min(given.damaged, given.runs)
            record(model, model.where / "damaged.jsonl", lambda m=model: damaged(m), breaks)
    trials, detections = rates(MODELS, explain=given.explain)
    print(page(trials, detections))
    if not given.keep:
        write(trials, detections)


if __name__ == "__main__":
    main()
