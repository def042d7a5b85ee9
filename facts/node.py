"""One consistent reading of a node by one remote command, made of the other facts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyinfra.api import QuoteString, StringCommand
from pyinfra.api.exceptions import FactProcessError

from cluster.node.readings import NodeFacts
from facts import containers, network, rdma, system
from facts.fact import Fact, join
from facts.weights import ModelWeights, Tiktoken

MARK = "=== spark-serving"
# Parts that wait for other programs (Docker, nvidia-smi): each runs beside the rest.
SLOW = ("engine", "ranks", "image", "gpus")
# What the section of a draft model is called, before its id.
DRAFT = "draft "


class NodeReading(Fact[NodeFacts]):
    """Everything that a deploy must know of a node, in one round trip.

    The light reading has identity, interfaces, RDMA ports, memory, ranks and image: what a
    converged run needs. `full` adds the container engine, GPUs, listeners, and what disks, weights
    and tiktoken name.

    + node: the name to give the result
    + runtime: whether ranks are containers ("docker") or plain processes ("process")
    + names: of ranks, to see also containers that took such a name without being ours
    + image: the reference to look up
    + disks: paths whose file systems to measure
    + weights, hf_cache, revision: the model to look for, the HF_HOME to look in, its revision
    + config: read the model's config.json as well
    + drafts: draft models to look for there too, each with its revision
    + tiktoken: the folder of vocabularies
    + cache_root: the folder of compile caches
    + seconds: after which Docker counts as not answering
    """

    def command(
        self,
        node: str = "",
        runtime: str = "docker",
        names: Sequence[str] = (),
        image: str | None = None,
        disks: Sequence[str] = (),
        weights: str | None = None,
        hf_cache: str | None = None,
        revision: str = "",
        config: bool = False,
        drafts: Sequence[tuple[str, str]] = (),
        tiktoken: str | None = None,
        cache_root: str = "",
        full: bool = False,
        seconds: int = containers.SECONDS,
    ) -> StringCommand:
        parts: dict[str, str | StringCommand] = {
            "identity": system.Identity().command(),
            "interfaces": network.Interfaces().command(),
            # Its second half, `ip -j -d addr`, is the section before.
            "rdma": rdma.WALK,
            "memory": system.Memory().command(),
        }
        if runtime == "docker":
            parts["ranks"] = containers.Containers().command(names, seconds)
            if image:
                parts["image"] = containers.Image().command(image, seconds)
        else:
            parts["ranks"] = containers.Processes().command()
        if full:
            if runtime == "docker":
                parts["engine"] = containers.EngineState().command(seconds)
            parts["gpus"] = system.Gpus().command()
            parts["listeners"] = network.Listeners().command()
            parts |= {f"disk {path}": system.Disk().command(path) for path in disks}
            if weights is not None:
                parts["weights"] = ModelWeights().command(
                    weights, hf_cache or "", revision, config=config
                )
            parts |= {
                f"{DRAFT}{draft}": ModelWeights().command(draft, hf_cache or "", commit)
                for draft, commit in drafts
            }
            if tiktoken is not None:
                parts["tiktoken"] = Tiktoken().command(tiktoken)
            if cache_root:
                parts["served"] = containers.ServedMarks().command(cache_root)
        header = StringCommand("exec 3>&1; printf '%s\\n'", QuoteString(f"{MARK} {runtime} {node}"))
        return join(header, "\n", _together(parts))

    def parse(self, output: list[str]) -> NodeFacts:
        headers = (f"{MARK} docker ", f"{MARK} process ")
        at = next(n for n, line in enumerate(output) if line.startswith(headers))
        header, *lines = output[at:]
        sections = _Sections(_rdma_with_addresses({s.name: s for s in _sections(lines)}))
        read = sections.read
        identity = read("identity", system.Identity())
        identity_fields = {} if identity is None else vars(identity)
        runtime, _, name = header.removeprefix(f"{MARK} ").partition(" ")
        ranks: Fact[Any] = (
            containers.Containers() if runtime == "docker" else containers.Processes()
        )
        disks = [read(name, system.Disk()) for name in sections.by_name if name.startswith("disk ")]
        drafts = {
            name.removeprefix(DRAFT): read(name, ModelWeights())
            for name in sections.by_name
            if name.startswith(DRAFT)
        }
        return NodeFacts(
            name=name,
            **identity_fields,
            interfaces=tuple(read("interfaces", network.Interfaces()) or ()),
            rdma=tuple(read("rdma", rdma.RdmaPorts()) or ()),
            memory=read("memory", system.Memory()),
            gpus=tuple(read("gpus", system.Gpus()) or ()),
            ranks=tuple(read("ranks", ranks) or ()),
            engine=read("engine", containers.EngineState()),
            image=read("image", containers.Image()),
            disks=tuple(disk for disk in disks if disk is not None),
            listeners=tuple(read("listeners", network.Listeners()) or ()),
            weights=read("weights", ModelWeights()),
            drafts={draft: weights for draft, weights in drafts.items() if weights is not None},
            tiktoken=read("tiktoken", Tiktoken()) or {},
            served=read("served", containers.ServedMarks()) or (),
            unread=sections.unread,
        )


@dataclass(frozen=True)
class _Section:
    """What one part of the command printed."""

    name: str
    output: list[str] = field(default_factory=list)
    status: int = 0
    words: list[str] = field(default_factory=list)

    @property
    def failure(self) -> str:
        message = "; ".join(word.strip() for word in self.words if word.strip())[:1000]
        # What `timeout` leaves when it had to end a command.
        return message or ("no answer in time" if self.status == 124 else f"exit {self.status}")


@dataclass(frozen=True)
class _Sections:
    by_name: dict[str, _Section]
    unread: dict[str, str] = field(default_factory=dict)

    def read(self, name: str, fact: Fact[Any]) -> Any:
        """The section's value; None if it wasn't requested, or couldn't be read."""
        section = self.by_name.get(name)
        if section is None:
            return None
        if section.status:
            self.unread[name] = section.failure
            return None
        try:
            return fact.process(section.output) if section.output else fact.default()
        except FactProcessError as e:
            self.unread[name] = str(e)
            return None


def _together(parts: Mapping[str, str | StringCommand]) -> StringCommand:
    """One script: each slow part runs beside all that follow it, whose output is held back.

    `exec 3>&1` lets the parts print to the real stdout from inside `$(…)`, which takes their
    stderr.
    """
    sections = {}
    for name, command in parts.items():
        # In a subshell between two marks; its stderr follows the second one.
        begin = StringCommand("printf '%s\\n'", QuoteString(f"{MARK} begin {name}"))
        end = f"; printf '{MARK} end %s\\n%s\\n' $? \"$why\""
        sections[name] = join(begin, "; why=$(\n", "{ ", command, "\n} 2>&1 >&3 )", end)
    quick = [section for name, section in sections.items() if name not in SLOW]
    script = StringCommand(*quick, _separator="\n")
    for slow in (section for name, section in sections.items() if name in SLOW):
        held = join("rest=$(exec 3>&1\n", script, "\n); wait; printf '%s\\n' \"$rest\"")
        script = join("{ ", slow, "\n} &\n", held)
    return script


def _sections(lines: list[str]) -> Iterator[_Section]:
    section, into = _Section(""), list[str]()
    for line in lines:
        mark, _, marked = line.partition(f"{MARK} ")
        kind, _, value = marked.partition(" ")
        if mark or not marked:
            into.append(line)
        elif kind == "begin":
            section = _Section(value)
            into = section.output
        elif kind == "end" and value.isdecimal():
            section = replace(section, status=int(value[:4]))
            into = section.words
            yield section


def _rdma_with_addresses(sections: dict[str, _Section]) -> dict[str, _Section]:
    """RdmaPorts reads sysfs and addresses: its sections are `rdma` and `interfaces`."""
    rdma, interfaces = sections.get("rdma"), sections.get("interfaces")
    if rdma is None or interfaces is None or not rdma.output:
        return sections
    if interfaces.output and not interfaces.status:
        return sections | {"rdma": replace(rdma, output=rdma.output + interfaces.output)}
    why = interfaces.failure if interfaces.status else "there is no `ip` command"
    return sections | {"rdma": replace(rdma, status=interfaces.status or 127, words=[why])}
