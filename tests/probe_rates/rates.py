"""How often each probe is wrong on real models that answer as they should, and on what a breaker
makes of the same answers.

    make probe-rates                                            # every model, 200 runs each
    make probe-rates RATES="--runs 20 --models smol"
    make probe-rates RATES="--models 1.5b --probes arithmetic,script"   # their requests alone
    make probe-rates RATES="--runs 0"                           # only judge what was recorded

Each run sends other questions (`questions(seed)`). What the models answer is kept under
.cache/probe-rates, so a later call goes on where one ended, and judges anew without a model; an
answer to a request that is worded otherwise by now is dropped. The rates are written into
cluster/probes/thresholds.toml and docs/probes.md, where those of a model without records stay as
they are.
"""

from __future__ import annotations

import argparse
import hashlib
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
from probe_replies import ALL, replies as right_replies  # noqa: E402

from cluster.probes.exchange import ProbeReply, ProbeRequest  # noqa: E402
from cluster.probes.judges import BASIC, FULL, ProbeVerdict, judge  # noqa: E402
from cluster.probes.questions import questions  # noqa: E402
from cluster.probes.rounds import TOGETHER, TOOL_REQUESTS, probe_rounds  # noqa: E402
from cluster.probes.thresholds import (  # noqa: E402
    THRESHOLDS,
    Detection,
    Measured,
    Trial,
    thresholds,
)

PAGE = ROOT / "docs/probes.md"
MARK = "# ---- measured: written by `make probe-rates`\n"
# What stands between these marks of the page is written here.
RATES, MISSES = "rates", "misses"
# The probes that need a few requests of a run, which can be sent without the others.
PARTS = {
    "arithmetic": ("sum", "same sum"),
    "script": ("script, whole", "script, streamed"),
    "tools": tuple(id for id, _, _ in TOOL_REQUESTS),
}
SECONDS = 600
# Runs whose longer answers are asked for at the same time, which a small model does faster.
BATCH = 8
# Tokens whose probabilities llama.cpp lists; another one counts as the least likely of them.
LISTED = 200
DAMAGED = "damaged weights"
# One byte of so many, after the file's header and vocabulary.
DAMAGE_EVERY = 2000
# Corruptions of made answers by each fault, whose places and words are drawn.
DRAWS = 20


# ---- sending


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


def planned(model: Real, seed: int, probes: Sequence[str]) -> dict[str, ProbeRequest]:
    """The requests of one run, or those of some probes alone; in their order, by id."""
    wanted = {id for probe in probes for id in PARTS[probe]}
    return {
        request.id: request
        for one in probe_rounds(model.abilities, "m", questions(seed))
        for request in one.requests
        if not wanted or request.id in wanted
    }


def digest(request: ProbeRequest) -> str:
    """Names what a request says."""
    content = json.dumps([request.path, request.body], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def replies_of(
    url: str, runs: dict[int, dict[str, ProbeRequest]]
) -> Iterator[tuple[int, ProbeReply]]:
    """The replies of several runs. The short questions are sent as in a deploy: one after the
    other, then among eight at once; the others of all runs at the same time."""
    with ThreadPoolExecutor(BATCH) as threads:
        eights = {
            seed: [r for id, r in run.items() if f"{id}{TOGETHER}" in run or alike(id)]
            for seed, run in runs.items()
        }
        others = [
            (seed, request)
            for seed, run in runs.items()
            for request in run.values()
            if request not in eights[seed]
        ]
        yield from threads.map(lambda pair: (pair[0], send(url, pair[1])), others)
        for seed, several in eights.items():
            alone = [request for request in several if not alike(request.id)]
            yield from ((seed, send(url, request)) for request in alone)
            beside = [request for request in several if alike(request.id)]
            yield from ((seed, reply) for reply in threads.map(lambda r: send(url, r), beside))


def alike(id: str) -> bool:
    """Whether a request is one of the eight."""
    return id.endswith(TOGETHER) or id.startswith("filler")


def recorded(model: Real, file: Path) -> dict[int, list[ProbeReply]]:
    """The replies in a file to what is sent today, by run; a line that a killed call left half is
    passed over."""
    runs: dict[int, dict[str, ProbeReply]] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            run = json.loads(line)
        except ValueError:
            continue
        today = planned(model, run["seed"], ())
        for reply in msgspec.convert(run["replies"], type=list[ProbeReply]):
            request = today.get(reply.id)
            if request and digest(request) == run["requests"].get(reply.id):
                runs.setdefault(run["seed"], {})[reply.id] = reply
    return {seed: list(run.values()) for seed, run in runs.items()}


def record(
    model: Real, file: Path, weights: Callable[[], Path], wanted: int, probes: Sequence[str]
) -> None:
    """Send what so many runs still lack in the file."""
    there = {seed: {reply.id for reply in run} for seed, run in recorded(model, file).items()}
    missing = {
        seed: {id: r for id, r in run.items() if id not in there.get(seed, ())}
        for seed in range(wanted)
        if not (run := planned(model, seed, probes)).keys() <= there.get(seed, set())
    }
    if not missing:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Serving(weights(), port) as url, file.open("a") as opened:
        seeds = list(missing)
        for place in range(0, len(seeds), BATCH):
            begin = time.monotonic()
            batch = {seed: missing[seed] for seed in seeds[place : place + BATCH]}
            came = list(replies_of(url, batch))
            for seed, requests in batch.items():
                own = [reply for of, reply in came if of == seed]
                run = {
                    "seed": seed,
                    "requests": {id: digest(request) for id, request in requests.items()},
                    "replies": msgspec.to_builtins(own),
                }
                opened.write(json.dumps(run) + "\n")
                opened.flush()
            done = min(place + BATCH, len(seeds))
            taken = time.monotonic() - begin
            print(f"{file.parent.name}: {done} of {len(seeds)}, {taken:.0f} s", flush=True)


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


def judged(model: Real, replies: Sequence[ProbeReply], seed: int) -> list[ProbeVerdict]:
    """The verdicts on a run: of all probes, or of those alone whose requests were sent."""
    verdicts = judge(model.abilities, replies, about=questions(seed))
    there = {reply.id for reply in replies}
    if whole(model, replies, seed):
        return list(verdicts)
    return [v for v in verdicts if v.name in PARTS and there >= set(PARTS[v.name])]


def whole(model: Real, replies: Sequence[ProbeReply], seed: int) -> bool:
    return len(replies) == len(planned(model, seed, ()))


def unchanged(id: str, fields: dict[str, Any]) -> None:
    """Changes no answer."""


def rates(models: Sequence[Real], *, explain: bool) -> tuple[list[Trial], list[Detection]]:
    """What the recorded runs of all models give."""
    trials, detections = [], []
    for model in models:
        runs = recorded(model, model.where / "replies.jsonl")
        counts: dict[str, Counter[str]] = {}
        for seed, replies in sorted(runs.items()):
            for verdict in judged(model, replies, seed):
                counts.setdefault(verdict.name, Counter())[verdict.outcome] += 1
                if explain and verdict.outcome == "wrong":
                    print(f"{model.name}, run {seed}: {verdict.name}: {verdict.why}")
                    print(f"    {verdict.question!r}\n    {verdict.answer!r}")
        for probe, count in counts.items():
            runs_of_it = count["right"] + count["wrong"]
            if runs_of_it:
                trials.append(Trial(probe, model.name, "real model", runs_of_it, count["wrong"]))
        # Where no run is whole, the faults that the requests of some probes alone show.
        runs = {s: replies for s, replies in runs.items() if whole(model, replies, s)} or runs
        damage = recorded(model, model.where / "damaged.jsonl")
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
                wrong = [v.name for v in judged(model, replies, seed) if v.outcome == "wrong"]
                by.update(wrong)
                caught += bool(wrong)
            if broken:
                detections.append(Detection(name, model.name, len(broken), caught, dict(by)))
    return trials, detections


def with_earlier(trials: Sequence[Trial], detections: Sequence[Detection]) -> Measured:
    """The rates, and those of the file that no record here renews."""
    before = thresholds().measured
    tried, found = {(t.probe, t.on) for t in trials}, {(d.fault, d.on) for d in detections}
    models = [model.name for model in MODELS]
    kept = (t for t in before.trials if (t.probe, t.on) not in tried)
    caught = (d for d in before.detections if (d.fault, d.on) not in found)
    return Measured(
        tuple(sorted((*kept, *trials), key=lambda t: models.index(t.on))),
        tuple(sorted((*caught, *detections), key=lambda d: models.index(d.on))),
    )


def misses() -> str:
    """How often each probe that could see it misses each fault, in answers that the tests make."""
    came, lines = right_replies(ALL), []
    for fault in FAULTS:
        by = Counter(
            verdict.name
            for seed in range(DRAWS)
            for verdict in judge(ALL, fault(came, seed))
            if verdict.outcome == "wrong"
        )
        cells = (f"{100 * (1 - by[name] / DRAWS):.0f} %" if by[name] else "-" for name in FULL)
        lines.append(f"| {fault.name} | {' | '.join(cells)} |\n")
    head = f"| fault | {' | '.join(FULL)} |\n| --- |{' ---: |' * len(FULL)}\n"
    return "".join([head, *lines])


def bound(alarms: int, runs: int) -> float:
    """The upper end of the one-sided 95 % interval of a share (Clopper and Pearson)."""
    from scipy.stats import beta

    return 1.0 if alarms == runs else float(beta.ppf(0.95, alarms + 1, runs - alarms))


def page(measured: Measured) -> str:
    """The tables of rates in docs/probes.md: of each probe, by model, and by fault."""
    lines = [
        "| probe | runs | false alarms | at most (95 %) | if it is wrong |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    table = msgspec.structs.replace(thresholds(), measured=measured)
    for probe in sorted({*FULL, *BASIC}, key=[*table.causes].index):
        real = [t for t in measured.trials if t.probe == probe]
        runs, alarms = sum(t.runs for t in real), sum(t.alarms for t in real)
        rate = f"{runs} | {alarms} | {100 * bound(alarms, runs):.1f} %" if runs else "0 | - | -"
        lines.append(f"| {probe} | {rate} | {'fails' if table.proven(probe) else 'warns'} |")
    lines += [
        "",
        "| probe | real model | runs | false alarms | at most (95 %) |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for t in measured.trials:
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
        for d in (d for d in measured.detections if d.fault == name):
            ordered = sorted(d.by.items(), key=lambda pair: (-pair[1], pair[0]))
            by = ", ".join(f"{probe} {n}" for probe, n in ordered)
            lines.append(f"| {name} | {what} | {d.on} | {d.caught} of {d.runs} | {by or '-'} |")
    return "\n".join(lines) + "\n"


def write(measured: Measured) -> None:
    """The rates into thresholds.toml and docs/probes.md, and the misses into the page."""
    head = THRESHOLDS.read_text().split(MARK)[0]
    tables = [MARK, "\n[measured]\n"]
    for name, rows in (("trials", measured.trials), ("detections", measured.detections)):
        lines = [f"  {toml(msgspec.to_builtins(row))},\n" for row in rows]
        tables += [f"{name} = [\n", *lines, "]\n"]
    THRESHOLDS.write_text(head + "".join(tables))
    text = PAGE.read_text()
    for mark, table in ((RATES, page(measured)), (MISSES, misses())):
        begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->\n"
        before, rest = text.split(begin)
        text = before + begin + table + end + rest.split(end)[1]
    PAGE.write_text(text)


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
    parser.add_argument("--probes", default="", help=f"these alone, of {', '.join(PARTS)}")
    parser.add_argument("--explain", action="store_true", help="print each false alarm")
    parser.add_argument("--keep", action="store_true", help="leave thresholds.toml and the page")
    given = parser.parse_args()
    probes = [name for name in given.probes.split(",") if name]
    if unknown := set(probes) - PARTS.keys():
        parser.error(f"--probes {', '.join(sorted(unknown))}: not one of {', '.join(PARTS)}")
    chosen = [model for model in MODELS if given.models.lower() in model.name.lower()]
    for model in chosen:
        record(model, model.where / "replies.jsonl", model.weights, given.runs, probes)
        if given.runs and not probes:
            breaks = min(given.damaged, given.runs)
            record(model, model.where / "damaged.jsonl", lambda m=model: damaged(m), breaks, ())
    measured = with_earlier(*rates(MODELS, explain=given.explain))
    print(page(measured))
    print(misses())
    if not given.keep:
        write(measured)


if __name__ == "__main__":
    main()
