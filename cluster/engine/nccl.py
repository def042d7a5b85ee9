"""The NCCL that an engine loaded, by its log, and what it means for a group over several nodes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from re import compile as expression, match

from cluster.catalog.entry import EngineImage, Model, merged
from cluster.engine.argv import Launch
from cluster.engine.log import clean
from cluster.engine.versions import parse_version
from cluster.findings import Finding, error, warning
from cluster.rank.spec import Spec
from cluster.settings.declaration import Declaration

# Over several nodes, CUDA graphs are verified with this one (cookbook of Qwen3.8-Flash-Next).
GRAPHS_NCCL = "2.29.7"
# Its graphs hang over several nodes (vllm-project/vllm#52504), and so did runs without graphs
# (sgl-project/sglang#33289); it crashed after 1.1 million collectives (NVIDIA/nccl#2213).
HANGING_NCCL = "2.28."
# An owner of a Spark has run it for weeks; its wheels bring NCCL 2.29.7. SGLang 0.5.18 is the first
# release whose wheels do.
RELEASE = "lmsysorg/sglang:v0.5.19"

NCCL_PATTERN = r"NCCL version [0-9]|sglang is using nccl==[0-9]"
"""For `grep -E` (POSIX): selects the lines that `loaded_nccl` reads. NCCL_DEBUG=VERSION or INFO
makes every library that a process loads print its own; SGLang names its own on rank 0 alone."""
_LOADED = expression(
    r"(?:^|NCCL INFO )NCCL version (\d{1,3}\.\d{1,3}\.\d{1,3})"
    r"|sglang is using nccl==(\d{1,3}\.\d{1,3}\.\d{1,3})"
)
# Options of SGLang that turn NVLS on: without them it sets NCCL_NVLS_ENABLE=0 itself.
NVLS_OPTIONS = {"--enable-nccl-nvls", "--enable-symm-mem"}
NO_GRAPHS = {"--disable-cuda-graph", "--disable-decode-cuda-graph"}
DECODE_BACKEND = "--cuda-graph-backend-decode"


def loaded_nccl(lines: Sequence[str]) -> tuple[str, ...]:
    """The versions that a rank's log names, the oldest first: an image may hold two libraries."""
    matches = (m for line in lines if (m := _LOADED.search(clean(line))))
    return tuple(sorted({m[1] or m[2] for m in matches}, key=parse_version))


def stated_nccl(image: EngineImage | None) -> str:
    """The NCCL that an image loads, as its source states it; "": unknown."""
    stated = match(r"(?:pip )?(\d+\.\d+\.\d+)", image.nccl) if image else None
    return stated[1] if stated else ""


def graphs_on(launch: Launch) -> bool:
    """Whether the launch line lets SGLang capture decode graphs: those that hold collectives."""
    added = (*launch.model_args, *launch.extra_args)
    words = [part for word in added for part in word.split("=", 1)]
    backends = [value for option, value in pairwise(words) if option == DECODE_BACKEND]
    if backends:
        return backends[-1] != "disabled"
    return not (launch.disable_cuda_graph or NO_GRAPHS & set(words))


def newer_nccl(declaration: Declaration, model: Model) -> str:
    """Settings that bring an image whose NCCL is known to capture graphs over several nodes."""
    nodes, catalog = len(declaration.names), declaration.catalog
    declared = catalog.image is None and "image" in catalog.sources
    for variant in () if declared else model.variants:
        forms = {form.nodes for form in variant.forms}
        image = merged(model, variant).image
        stated = stated_nccl(image)
        if (
            stated
            and variant.name != catalog.variant
            and not (image and image.third_party)
            and parse_version(stated) >= parse_version(GRAPHS_NCCL)
            and (not forms or nodes in forms)
        ):
            return f"--data variant={variant.name}"
    return f"--data image={RELEASE}, or another of SGLang 0.5.18 or newer"


@dataclass(frozen=True)
class Collectives:
    """What of a group's specs decides how the NCCL that its ranks load is judged.

    + nodes: of the group; graphs: it captures CUDA graphs
    + cure: settings that bring a newer NCCL (`newer_nccl`)
    + stated: the NCCL of its image, as the catalog states it; "": unknown
    + image: its reference
    + host_ipc: its ranks share the host's IPC; nvls: NVLS was requested
    + experts: of the model, a layer; None: unknown, or no mixture
    """

    nodes: int
    graphs: bool
    cure: str
    stated: str = ""
    image: str = "IMAGE"
    host_ipc: bool = False
    nvls: bool = False
    experts: int | None = None

    def findings(self, loaded: Mapping[str, Sequence[str]]) -> tuple[Finding, ...]:
        """What is wrong with the NCCL of a group over several nodes.

        + loaded: node -> the versions that its rank's log names; () where it names none (yet)
        """
        read = {node: versions for node, versions in loaded.items() if versions}
        if self.nodes < 2 or not read:
            return ()
        findings = [*self._different(read)]
        oldest = min((versions[0] for versions in read.values()), key=parse_version)
        if oldest.startswith(HANGING_NCCL):
            report = error if self.graphs else warning
            what = (
                f"NCCL {oldest} hangs over several nodes with CUDA graphs"
                if self.graphs
                else f"NCCL {oldest} has hung over several nodes without CUDA graphs too"
            )
            findings.append(report(what, cure=self._newer(oldest), key="nccl-hangs"))
        elif parse_version(oldest) < parse_version(GRAPHS_NCCL):
            how = "CUDA graphs are on, and" if self.graphs else "leave CUDA graphs off:"
            what = f"NCCL {oldest}: {how} over several nodes they are known to work from"
            findings.append(
                warning(f"{what} {GRAPHS_NCCL} on", cure=self._newer(oldest), key="nccl-old")
            )
        return tuple(findings)

    def _different(self, read: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
        """Ranks that can't have loaded the same library: their logs name no version in common."""
        (first, own), *others = read.items()
        for node, versions in others:
            if not set(own) & set(versions):
                yield error(
                    f"the ranks loaded different NCCLs: {first} {', '.join(own)}, "
                    f"{node} {', '.join(versions)}",
                    cure="the same image on every node, and no LD_PRELOAD or volume of one alone: "
                    "pyinfra INVENTORY deploys/check.py",
                    key="nccl-differs",
                )
                return

    def _newer(self, oldest: str) -> str:
        """The cure: another image, or where the image is known to hold a newer library, that."""
        if self.stated and parse_version(self.stated) > parse_version(oldest):
            return (
                f"the image also holds NCCL {self.stated}: set env LD_PRELOAD to its library "
                f"(docker run --rm --entrypoint find {self.image} / -path "
                "'*/nvidia/nccl/lib/libnccl.so.2')"
            )
        return self.cure

    def hang_causes(self, loaded: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
        """Why a start may hang, as far as what was read supports it, the likeliest first, each
        with its cure."""
        causes = [f"{finding.what} -> {finding.cure}" for finding in self.findings(loaded)]
        if self.nodes > 1 and not any(loaded.values()):
            causes.append("its log names no NCCL -> --data nccl_debug=INFO shows it")
        if self.host_ipc:
            causes.append(
                "ipc=host: logind's RemoveIPC deletes semaphores when a session ends -> "
                "--data ipc=private"
            )
        if self.nvls:
            experts = f", with {self.experts} experts" if self.experts else ""
            causes.append(
                f"NVLS is on{experts}: NCCL 2.30.4 has hung in it while loading 256 experts or "
                "more -> leave NVLS off (env NCCL_NVLS_ENABLE=0)"
            )
        return tuple(causes)


def collectives_of(
    specs: Mapping[str, Spec], declaration: Declaration, model: Model
) -> Collectives:
    """What a group is judged by.

    + specs: node -> its rank's, rank order: as declared, or as it runs; not empty
    + model: the declared one, whose entry has the cure
    """
    first = next(iter(specs.values()))
    launch, image = first.launch, declaration.catalog.image
    words = {word.partition("=")[0] for word in (*launch.model_args, *launch.extra_args)}
    own = first.model == model.id
    return Collectives(
        nodes=launch.nnodes,
        graphs=graphs_on(launch),
        cure=newer_nccl(declaration, model),
        stated=stated_nccl(image) if own and first.image == declaration.common.image else "",
        image=first.image,
        host_ipc=first.ipc == "host",
        nvls=bool(NVLS_OPTIONS & words) or first.env.get("NCCL_NVLS_ENABLE", "0") != "0",
        experts=model.shape.experts if own else None,
    )
