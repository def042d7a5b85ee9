"""What is wrong with the launch itself: parallelism, ports, memory, extra arguments."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from cluster import findings, printable
from cluster.catalog.fit import fit
from cluster.catalog.models import Model, own_findings
from cluster.checks.declared_use import declared_use
from cluster.checks.nodes import Needs
from cluster.engine.options import NEWEST, matching_names, options_of, parse_options
from cluster.engine.versions import names_release
from cluster.node.readings import NodeFacts
from cluster.plan.specs import mem_fraction
from cluster.settings import declaration, schema
from cluster.settings.resolve import DRAFT_PATH, choice_findings

# SGLang's model_config.py accepts a context longer than the model's only with this.
LONGER = "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"
ROPE = "--json-model-override-args"
SECRET = ("--api-key", "--admin-api-key")
# Above this share owners saw Sparks freeze; the catalog's largest is 0.85.
HIGH_FRACTION = 0.85
# Bytes that are enough to cure a full /dev/shm: more is a mistake.
SHM_USUAL = 64 << 30
SECRET_NAME = re.compile(
    r"(_|^)(TOKEN|KEY|SECRET|CREDENTIALS?)\Z|PASSWORD|PASSWD|_(ACCESS|API)_?KEY"
)
# Options that the plan and readiness rely on, so extra_args can't set them → (what decides them,
# the cure).
DECIDED = {
    "--port": ("the setting port", "--data port=PORT"),
    "--host": ("the setting host", "--data host=ADDRESS"),
    "--served-model-name": ("the setting served_model_name", "--data served_model_name=NAME"),
    "--model-path": ("the setting model", "--data model=MODEL"),
    "--revision": ("the setting revision", "--data revision=REVISION"),
    "--speculative-draft-model-revision": (
        "the model's entry in the catalog",
        "leave it out; a folder on the nodes (volumes) can hold any revision",
    ),
    "--tp-size": ("the setting tensor_parallel", "--data tensor_parallel=NUMBER"),
    "--pp-size": ("the setting pipeline_parallel", "--data pipeline_parallel=NUMBER"),
    "--nnodes": ("the inventory", "--data head_only=true, or other workers in the inventory"),
    "--node-rank": ("the inventory", "the order of its hosts is the order of the ranks"),
    "--dist-init-addr": (
        "the settings address and dist_port",
        "--data dist_port=PORT, and the head's address in the inventory",
    ),
}


# Options whose value can be a repository on the hub. A deploy brings the model and its draft model
# alone, and the engine is offline.
REPOSITORIES = (
    *("--speculative-draft-model-path", "--speculative-token-map"),
    *("--tokenizer-path", "--lora-paths", "--uno-lora-path", "--kt-weight-path"),
)


def check_launch(
    wanted: declaration.Declaration,
    model: Model,
    nodes: Sequence[NodeFacts],
    needs: Needs,
    version: str,
) -> Iterator[findings.Finding]:
    """Findings that do not depend on the nodes' Docker, disks and ports.

    + version: SGLang's, whose options extra_args are read by; "" for the process runtime
    """
    settings = wanted.common
    yield from own_findings(model)
    yield from choice_findings(wanted, model)
    if model.runtime != settings.runtime and model.alias:
        yield findings.error(
            f"model {model.alias} needs runtime = {model.runtime!r}, not {settings.runtime!r}",
            cure="inventories/local.py serves smollm2; a Spark serves any other model",
            key="runtime-unsupported",
        )
    if settings.api_key_file and settings.runtime == "process":
        yield findings.error(
            "api_key_file needs runtime = 'docker': the embedded engine requires no key",
            cure="leave api_key_file out: it listens on this machine alone",
            key="api-key-unsupported",
        )
    if len(nodes) > 1:
        yield from _several(settings)
    yield from _context(settings, model)
    yield from _fits(wanted, model, nodes, needs, version)
    if settings.runtime == "docker":
        yield from _freezing(wanted, model, nodes, version)
        if wanted.common.ipc == "host" and not wanted.common.linger:
            yield findings.warning(
                "ipc = 'host': logind removes its semaphores when the SSH session ends "
                "(RemoveIPC), and SGLang hangs hours later",
                cure="--data ipc=private; or linger = true, with deploys/host.py",
                key="ipc-host",
            )
        yield from _hidden_gpus(wanted, nodes)
    yield from _shown(wanted)
    if version:
        if not names_release(version):
            yield findings.warning(
                f"which release of SGLang {settings.image} holds is unknown: its options are taken "
                f"for those of {NEWEST}",
                cure="--data sglang_version=VERSION, if you know the release it was built from",
                key="sglang-version-unknown",
            )
        yield from check_extra_args(settings.extra_args, version)
        yield from check_repositories(wanted, model, version)


def _several(settings: schema.Settings) -> Iterator[findings.Finding]:
    """Settings that don't work with several nodes."""
    if settings.host != "0.0.0.0":
        yield findings.error(
            f"host = {settings.host!r} over several nodes: every rank must answer its head, so it "
            "must be 0.0.0.0",
            cure="--data host=0.0.0.0",
            key="host-address",
        )
    if settings.runtime == "process":
        yield findings.error(
            "runtime = 'process' serves from one node",
            cure="--data head_only=true",
            key="runtime-one-node",
        )
    if settings.port == settings.dist_port:
        yield findings.error(
            f"port and dist_port are both {settings.port}: the head listens on each",
            cure="--data dist_port=50000, or any other free port",
            key="ports-equal",
        )


def _context(settings: schema.Settings, model: Model) -> Iterator[findings.Finding]:
    """A context longer than the model's: SGLang refuses to start with it."""
    longest, wanted = model.max_context, settings.context_length
    stretched = LONGER in settings.env or any(w.startswith(ROPE) for w in settings.extra_args)
    if longest and wanted != "auto" and wanted > longest and not stretched:
        yield findings.error(
            f"context_length = {wanted} is more than {model.alias or model.id} has ({longest})",
            cure=f"--data context_length={longest}",
            key="context-too-long",
        )


def _fits(
    wanted: declaration.Declaration,
    model: Model,
    nodes: Sequence[NodeFacts],
    needs: Needs,
    version: str,
) -> Iterator[findings.Finding]:
    # Our own rank's memory is free once it stops: the reading of its node does not count.
    idle = [n for n in nodes if not any(r.alive and r.name in needs.our_names for r in n.ranks)]
    yield from fit(
        model,
        min((n.memory.total for n in nodes if n.memory), default=None),
        declared_use(wanted, model, nodes, version),
        memory_available_bytes=min((n.memory.available for n in idle if n.memory), default=None),
        gpus_per_node=min((len(n.gpus) or 1 for n in nodes), default=1),
    )


def _freezing(
    wanted: declaration.Declaration, model: Model, nodes: Sequence[NodeFacts], version: str
) -> Iterator[findings.Finding]:
    """Memory settings that have frozen Sparks: a GB10's GPU shares the system's memory, and a Spark
    that runs out answers nothing until its power is cut (the vendor's forum; owners settle on 0.80
    to 0.85, some on less)."""
    settings = wanted.common
    given = parse_options(settings.extra_args, version or NEWEST)
    fraction = mem_fraction(settings, model)
    with suppress(ValueError):
        fraction = float(given.get("--mem-fraction-static", "")) or fraction
    # A GPU with memory of its own reports how much; one that could not be read counts as a Spark's.
    shared = not all(n.gpus and all(g.memory_bytes for g in n.gpus) for n in nodes)
    if shared and fraction > HIGH_FRACTION:
        what = (
            f"mem_fraction = {fraction:g} leaves the system too little memory: a Spark's GPU "
            "shares it, and running out freezes the machine"
        )
        cure = "--data mem_fraction=0.8; earlyoom=true with deploys/host.py kills a process first"
        yield findings.warning(what, cure=cure, key="memory-fraction-high")
        swapping = [n.name for n in nodes if n.memory and n.memory.swap]
        if swapping:
            what = (
                f"mem_fraction = {fraction:g} with swap on ({', '.join(swapping)}): a Spark that "
                "runs out then swaps until it freezes, instead of killing a process"
            )
            yield findings.warning(
                what,
                cure="--data mem_fraction=0.8, or sudo swapoff -a on these nodes",
                key="memory-fraction-with-swap",
            )
    least = min((n.memory.total for n in nodes if n.memory), default=None)
    # Docker's size: "32g".
    number, unit = int(settings.shm_size[:-1]), settings.shm_size[-1]
    shm_bytes = number << {"b": 0, "k": 10, "m": 20, "g": 30}[unit]
    if shared and least and settings.ipc != "host" and shm_bytes > SHM_USUAL:
        what = (
            f"shm_size = {settings.shm_size!r} uses memory too, and mem_fraction = {fraction:g} "
            f"leaves {printable.gibibytes((1 - fraction) * least, 0)} besides SGLang's "
            "share: a Spark that runs out freezes"
        )
        yield findings.warning(
            what, cure=f"--data shm_size={schema.Settings.shm_size}", key="shm-size-large"
        )


def _hidden_gpus(
    wanted: declaration.Declaration, nodes: Sequence[NodeFacts]
) -> Iterator[findings.Finding]:
    """CUDA_VISIBLE_DEVICES that begins with a GPU the node doesn't have: CUDA then sees none."""
    for node in nodes:
        value = wanted.nodes[node.name].env.get("CUDA_VISIBLE_DEVICES")
        first = (value or "").split(",")[0].strip()
        if value is None or not node.gpus or first in map(str, range(len(node.gpus))):
            continue
        # "GPU-8b4c…" and "MIG-…" name one by its UUID.
        if not first or first.lstrip("-").isdigit():
            count = f"{len(node.gpus)} GPU{'s' * (len(node.gpus) > 1)}"
            yield findings.warning(
                f"env CUDA_VISIBLE_DEVICES = {value!r} hides every GPU: the node has {count}, "
                "counted from 0",
                node.name,
                "remove CUDA_VISIBLE_DEVICES from env; the setting gpus chooses GPUs",
                key="gpus-hidden",
            )


def _shown(wanted: declaration.Declaration) -> Iterator[findings.Finding]:
    """Secrets in `env`, which plans, labels and `docker inspect` show."""
    names = {
        name
        for settings in wanted.nodes.values()
        for name, value in settings.env.items()
        if SECRET_NAME.search(name) and value and not value.isdigit()
    }
    for name in sorted(names):
        what = f"env {name} looks like a secret: plans, labels and docker inspect show its value"
        cure = "mount a file with it (volumes) and name that in env; for the API: api_key_file"
        yield findings.warning(what, cure=cure, key="secret-in-env")


def check_extra_args(words: Sequence[str], version: str) -> Iterator[findings.Finding]:
    """Words of extra_args, spelt out or abbreviated, that would show a secret or undo the plan."""
    options = options_of(version)
    for word in words:
        spelt = word.partition("=")[0]
        meant = {name for o in matching_names(word, options) for name in options[o].names}
        one = len({options[o].name for o in matching_names(word, options)}) == 1
        if spelt.startswith(SECRET) or (one and meant & set(SECRET)):
            yield findings.error(
                f"extra_args must not hold {spelt}: it would show in `ps` and in `docker inspect`",
                cure="--data api_key_file=FILE, a 0600 file here that holds the key",
                key="secret-in-arguments",
            )
        for option, (decider, cure) in DECIDED.items():
            if one and option in meant:
                yield findings.error(
                    f"extra_args must not hold {spelt}: {decider} decides it",
                    cure=cure,
                    key="option-is-ours",
                )


def check_repositories(
    wanted: declaration.Declaration, model: Model, version: str
) -> Iterator[findings.Finding]:
    """Repositories beside the model's that nothing would bring to the nodes, and a draft model that
    SGLang would not use."""
    settings, catalog = wanted.common, wanted.catalog
    given = parse_options(settings.extra_args, version)
    line = parse_options((*catalog.arguments, *settings.extra_args), version)
    brought = {model.id, *([catalog.draft.id] if catalog.draft else [])}
    for option in (option for option in REPOSITORIES if option in line):
        for name in _places(line[option]):
            if name in brought or re.match(r"[./~]|\w+://", name):
                continue
            cure = f"put it on every node, mount it (volumes), and name its path in {option}"
            if option == DRAFT_PATH:
                cure = f"take it out, and --data draft={name}, which brings it; or {cure}"
            whose = "extra_args name" if option in given else "the model's entry names"
            yield findings.error(
                f"{whose} the repository {name} ({option}): it is not brought to the nodes, and "
                "the engine runs offline",
                cure=cure,
                key="repository-not-copied",
            )
    if settings.draft in ("auto", "none"):
        return
    if DRAFT_PATH in given:
        yield findings.error(
            f"draft = {settings.draft!r}, and extra_args name a draft model too ({DRAFT_PATH})",
            cure="take one of the two out",
            key="draft-twice",
        )
    elif "--speculative-algorithm" not in line:
        yield findings.error(
            f"draft = {settings.draft!r}, but no algorithm uses it: {model.alias or model.id} is "
            "served without speculative decoding",
            cure="--data extra_args='--speculative-algorithm EAGLE3', or what the draft model was "
            "made for; or --data draft=none",
            key="draft-unused",
        )


def _places(value: str) -> list[str]:
    """The repositories and paths in an option's value; of LoRA adapters, the value can be NAME=PATH
    …, or JSON with a lora_path."""
    stated = re.findall(r'"lora_path"\s*:\s*"([^"]*)"', value)
    words = re.sub(r"\{[^{}]*\}", " ", value).split()
    return [*stated, *(word.rpartition("=")[2] for word in words)]
