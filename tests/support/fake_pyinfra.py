#!/usr/bin/env python3
"""A fake of the project's pyinfra, for the tests of `spark-bench all`: it deploys by writing down
what is served, which fake_project.py's engine reads.

It knows the command lines that spark-bench types, and no others. `faults.json` beside it names
what goes wrong with a model: {"org/b": "refused"}.
"""

import json
import os
import sys
import time
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
STATE = HERE / "served.json"
SETTINGS = ("tensor_parallel", "pipeline_parallel", "mem_fraction", "disable_cuda_graph")
LAUNCH = {"tensor_parallel": "tp", "pipeline_parallel": "pp"}
# As the real one writes and prints them: outcome, findings, output.
FAULTS = {
    "refused": (
        "refused",
        [
            {"what": "no QSFP port is Up", "where": "fake-1", "cure": "plug it in at both ends"},
            {"what": "b does not fit: 145.4 GB of weights > 111.0 GB", "cure": "more nodes"},
        ],
        "--> pyinfra error in /p/control/run.py line 29: refused, nothing was changed:\n",
    ),
    "unreachable": (
        "failed",
        [{"what": "it cannot be reached: timed out", "where": "fake-2"}],
        "    [fake-1] Connected\n    [fake-2] Could not connect (timed out)\n\n",
    ),
    "dies": (
        "failed",
        [
            {"what": "sglang-worker-1 has ended: exited with exit code 1", "where": "fake-2"},
            {"what": "the GPU's memory ran out", "where": "fake-2", "key": "gpu-memory",
             "cure": "--data mem_fraction=0.75"},
            {"what": "others have used its memory", "level": "warning"},
        ],
        "    [fake-1] Error: executed 0 commands\n\n--> Disconnecting from hosts...\n",
    ),
    "dies silently": (
        "",
        [],
        "--> Loading config...\nTraceback (most recent call last):\nMemoryError\n",
    ),
}  # fmt: skip


def main(words):
    assert "SPARK_BENCH_API_KEY" not in os.environ, "the server's key is not for a deploy"
    with (HERE / "calls.log").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    data = dict(w.split("=", 1) for at, w in enumerate(words) if words[at - 1] == "--data")
    data = {name: value(text) for name, text in data.items()}
    program = words[2]
    if program == "deploys/listing.py":
        print(json.dumps(listing(light="light" in data)))
    elif program == "deploys/feasible.py":
        print(json.dumps({"version": 1, "verdicts": [verdict(case) for case in data["cases"]]}))
    else:
        assert program == "deploy.py", words
        deploy(data)


def value(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def read(name):
    try:
        return json.loads((HERE / name).read_text())
    except FileNotFoundError:
        return {}


def listing(light):
    settings, now = read("settings.json"), read("served.json")
    runs = bool(now) and not light
    rank = {
        "node": "fake-1", "rank": 0, "name": "sglang-head", "runtime": "docker", "image": "i:t",
        "image_id": "sha256:ab", "sglang": "0.5.3", "started_at": "2026-05-01T10:00:00Z",
        "model": now.get("model", ""), "launch": now.get("launch", {}), "spec": now.get("spec", ""),
    }  # fmt: skip
    ranks = settings["nodes"][: now["launch"]["nnodes"]] if runs else []
    return {
        "version": 1, "light": light, "url": settings["url"], "runs": runs, "model": "org/a",
        "served_model_name": now.get("name", ""), "group": "sglang", "state": "running",
        "ranks": [rank | {"node": n, "rank": i} for i, n in enumerate(ranks)],
        "nodes": [{"name": n} for n in settings["nodes"]],
        "catalogue": settings["catalogue"], "api_key_file": settings.get("api_key_file", ""),
    }  # fmt: skip


def verdict(case):
    nodes = 1 if case.get("head_only") else len(read("settings.json")["nodes"])
    tp = 1 if case.get("head_only") else case.get("tensor_parallel", nodes)
    names = (*SETTINGS, "model", "head_only")
    errors = [f"{name} is not a setting" for name in case if name not in names]
    if tp > nodes:
        errors.append(f"tensor_parallel {tp} GPUs are needed, the nodes have {nodes}")
    return {
        "errors": errors, "model": case["model"], "served_model_name": case["model"],
        "nodes": nodes, "tp": tp, "pp": 1, "mem_fraction": 0.8, "weight_bytes": 10**9,
        "lacks_token": read("faults.json").get(case["model"]) == "no token",
    }  # fmt: skip


def report(data, outcome, step, findings=()):
    findings = [{"level": "error", "key": "", "where": "", "cure": "", **f} for f in findings]
    document = {"version": 1, "outcome": outcome, "step": step, "findings": findings}
    Path(data["report"]).write_text(json.dumps(document))


def deploy(data):
    fault = read("faults.json").get(data["model"], "")
    outcome, findings, output = FAULTS.get(fault, ("changed", [], ""))
    report(data, "interrupted", "start")
    if fault in FAULTS:
        print(output, end="", file=sys.stderr)
        if outcome:
            report(data, outcome, "switch", findings)
        else:
            Path(data["report"]).unlink()
        raise SystemExit(1)
    if fault in ("downloads", "hangs downloading"):
        report(data, "interrupted", "weights")
        for part in range(1 if "hangs" in fault else 8):
            print(f"    [fake-1] downloading, {part} of 145.4 GB", flush=True)
            time.sleep(0.5)
        if "hangs" in fault:
            time.sleep(600)
    report(data, "interrupted", "switch")
    if fault == "hangs":
        print("    [fake-1] waiting, 1 of 600 s: fake-1 loading", flush=True)
        time.sleep(600)
    time.sleep(read("settings.json").get("seconds", 0))
    nodes = 1 if data.get("head_only") else len(read("settings.json")["nodes"])
    launch = {"tp": nodes, "pp": 1, "nnodes": nodes, "mem_fraction": 0.8, "served_model_name": ""}
    launch |= {LAUNCH.get(name, name): data[name] for name in SETTINGS if name in data}
    launch["served_model_name"] = "other/model" if fault == "another" else data["model"]
    now = {"model": data["model"], "name": launch["served_model_name"], "launch": launch}
    spec = json.dumps([data["model"], launch], sort_keys=True)
    now["spec"] = sha256(spec.encode()).hexdigest()
    draft = STATE.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(now))
    draft.replace(STATE)
    doubt = {"what": "the probe tools failed", "key": "probe-tools", "level": "warning"}
    doubts = [doubt | {"where": "fake-1"}] if fault == "doubted" else []
    report(data, outcome, "end", doubts)
    print(f"    [fake-1] serving {data['model']} on {nodes} node(s)")


main(sys.argv[1:])
