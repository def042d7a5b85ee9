"""SGLang's versions: their order, which one an image holds, and what depends on it."""

from dataclasses import dataclass
from functools import lru_cache
from re import fullmatch

from packaging.version import InvalidVersion, Version

from cluster.findings import Refused, error

# docker image inspect of lmsysorg/sglang:spark, and dgx-spark-playbooks issue 68.
SPARK_VERSION = "0.5.3.post3"


# Of an image that nobody has read, and the start of what a build that is no release calls itself:
# "0.0.0.dev1+g452239a74".
UNKNOWN = "0.0.0"


@dataclass(frozen=True)
class Vulnerability:
    """A published way for whoever the API lets in to run code in the server.

    + route: the endpoint that it needs
    + since, fixed: the first version that has it ("": all), and the first that no longer has it
    + source: where it is described. The versions come from reading the code of 0.5.3.post3, 0.5.4,
      0.5.4.post1, 0.5.7, 0.5.8, 0.5.11, 0.5.18 and 0.5.20 to 0.5.23; none was tried
    """

    name: str
    route: str
    since: str
    fixed: str
    source: str


VULNERABILITIES = (
    # It unpickles whatever a client sends.
    Vulnerability(
        name="CVE-2025-10164",
        route="POST /update_weights_from_tensor",
        since="",
        fixed="0.5.4.post1",
        source="https://github.com/sgl-project/sglang/pull/11909",
    ),
    # The unpickler that fixed the other one allows all of `builtins` but a few names. 0.5.21 lists
    # the classes that it allows; 0.5.22 also requires the administrator's key.
    Vulnerability(
        name="CVE-2026-15969",
        route="POST /load_lora_adapter_from_tensors, /update_weights_from_tensor",
        since="0.5.4.post1",
        fixed="0.5.22",
        source="https://github.com/sgl-project/sglang/issues/30165",
    ),
)


def vulnerabilities(version: str) -> tuple[Vulnerability, ...]:
    """The published vulnerabilities of a version; none are known of what is no release."""
    own = parse_version(version)
    return tuple(
        vulnerability
        for vulnerability in VULNERABILITIES
        if names_release(version)
        and (not vulnerability.since or parse_version(vulnerability.since) <= own)
        and own < parse_version(vulnerability.fixed)
    )


@lru_cache(1024)
def parse_version(version: str) -> Version:
    """A version as PEP 440 orders it, without its local part ("+cu130").

    Raises Refused where it is not a version of SGLang.
    """
    try:
        if not fullmatch(r"v?\d+\.\S+", version):
            raise InvalidVersion(version)
        return Version(Version(version).public)
    except InvalidVersion:
        raise Refused(
            error(
                f"sglang_version = {version!r} is not a version of SGLang (0.5.3.post3, 0.5.23)",
                cure="docker run --rm IMAGE python3 -c 'import sglang; print(sglang.__version__)'",
                key="sglang-version-invalid",
            )
        ) from None


def names_release(version: str) -> bool:
    """Whether it names the release that it is or follows, as "0.5.22.dev7+gabc" does."""
    return parse_version(version) >= parse_version("0.0.1")


def known_version(image: str) -> str | None:
    """The SGLang version that an image's name reveals; None where only the image itself can tell.

    `lmsysorg/sglang:spark` has a fixed version; other tags are parsed ("v0.5.19-cu129": 0.5.19;
    "0.5.17-sm121": 0.5.17). A mirror of the same repository counts; a digest after the tag is
    ignored.
    """
    repository, _, tag = image.partition("@")[0].rpartition(":")
    if not repository.endswith("sglang"):
        return None
    if tag == "spark" and fullmatch(r"(.*/)?lmsysorg/sglang", repository):
        return SPARK_VERSION
    named = fullmatch(r"v?(\d+\.\d+\.\d+(?:rc\d+)?(?:\.post\d+)?)(?:-.*)?", tag)
    return named[1] if named else None


def dp_attention_needed(model_id: str, version: str) -> bool:
    """Whether a group over several nodes needs --enable-dp-attention to start.

    With dp-size 1 it brings no attention DP at all: it only keeps FlashInfer's fused all-reduce
    off, which fails over two nodes ("CUDART error: invalid resource handle"). SGLang 0.5.5 turned
    that on for gpt-oss on GB10; 0.5.5.post1 took it back for nnodes > 1 (its PR 12724). Stock
    0.5.3.post3 never turns it on there. But nobody can see what the :spark image patches, the flag
    costs nothing, and gpt-oss runs on two Sparks with it: so that version keeps it.
    """
    if "gpt-oss" not in model_id.lower():
        return False
    broken = parse_version("0.5.5") <= parse_version(version) < parse_version("0.5.5.post1")
    return broken or parse_version(version) == parse_version(SPARK_VERSION)
