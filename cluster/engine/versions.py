"""SGLang's versions: their order, which one an image holds, and what depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from re import compile, fullmatch

from cluster.findings import Refused, error

Key = tuple[tuple[int, ...], float, float]

# PEP 440 as far as SGLang's releases, image tags and nightly builds (setuptools-scm) use it;
# packaging would be a whole dependency.
VERSION = compile(
    r"v?(\d+(?:\.\d+)+)(?:\.?(?:a|b|rc)(\d+))?(?:\.post(\d+))?(?:\.?dev(\d+))?(?:\+[\w.]+)?"
)
# docker image inspect of lmsysorg/sglang:spark, and dgx-spark-playbooks issue 68.
SPARK_VERSION = "0.5.3.post3"


@dataclass(frozen=True)
class Vulnerability:
    """A way to run code in the server that is public, for whoever its API lets in.

    + route: what has to be reached
    + since, fixed: the first version that has it, "" for all, and the first that has it no more
    + source: where it is told. The versions are as the code of the releases has them: 0.5.3.post3,
      0.5.4, 0.5.4.post1, 0.5.7, 0.5.8, 0.5.11, 0.5.18, 0.5.20 to 0.5.23 were read, and not
      tried
    """

    name: str
    route: str
    since: str
    fixed: str
    source: str


VULNERABILITIES = (
    # Whatever is sent is unpickled.
    Vulnerability(
        name="CVE-2025-10164",
        route="POST /update_weights_from_tensor",
        since="",
        fixed="0.5.4.post1",
        source="https://github.com/sgl-project/sglang/pull/11909",
    ),
    # The unpickler that mended that lets all of `builtins` pass but for a few names. 0.5.21 names
    # each class that passes; 0.5.22 also asks for the administrator's key there.
    Vulnerability(
        name="CVE-2026-15969",
        route="POST /load_lora_adapter_from_tensors, /update_weights_from_tensor",
        since="0.5.4.post1",
        fixed="0.5.22",
        source="https://github.com/sgl-project/sglang/issues/30165",
    ),
)


def vulnerabilities(version: str) -> tuple[Vulnerability, ...]:
    """Those that a version has."""
    own = version_key(version)
    return tuple(
        vulnerability
        for vulnerability in VULNERABILITIES
        if (not vulnerability.since or version_key(vulnerability.since) <= own)
        and own < version_key(vulnerability.fixed)
    )


def version_key(version: str) -> Key:
    """What versions are ordered by; Refused where it is not a version."""
    found = VERSION.fullmatch(version)
    if not found:
        raise Refused(
            error(
                f"sglang_version = {version!r} is not a version of SGLang (0.5.3.post3, 0.5.23)",
                cure="docker run --rm IMAGE python3 -c 'import sglang; print(sglang.__version__)'",
            )
        )
    release, early, post, dev = found.groups()
    numbers = tuple(int(n) for n in release.split("."))
    # A development version lies before the one that it becomes.
    first = -1.0 if dev and not post else inf
    after = float(post) if post else -1.0
    return numbers, float(early) if early else first, after - 0.5 if dev else after


def known_version(image: str) -> str | None:
    """The SGLang version that an image's name gives away, or None: only its label or run can tell.

    `lmsysorg/sglang:spark` is known by name; other tags are read ("v0.5.19-cu129" is 0.5.19).
    A registry's mirror of the same repository counts; a digest behind the tag says nothing more.
    """
    repository, _, tag = image.partition("@")[0].rpartition(":")
    if not repository.endswith("sglang"):
        return None
    if tag == "spark" and fullmatch(r"(.*/)?lmsysorg/sglang", repository):
        return SPARK_VERSION
    found = fullmatch(r"v(\d+\.\d+\.\d+(?:rc\d+)?(?:\.post\d+)?)(?:-.*)?", tag)
    return found.group(1) if found else None


def dp_attention_needed(model_id: str, version: str) -> bool:
    """Whether a group over several nodes needs --enable-dp-attention to start.

    With dp-size 1 it brings no attention DP at all: it only keeps FlashInfer's fused all-reduce
    off, which fails over two nodes ("CUDART error: invalid resource handle"). SGLang 0.5.5 turned
    that on for gpt-oss on GB10; 0.5.5.post1 took it back for nnodes > 1 (its PR 12724). Stock
    0.5.3.post3 never turns it on there, but what the :spark image patches can't be seen, the flag
    costs nothing, and with it gpt-oss is known to run on two Sparks: so it stays for that version.
    """
    if "gpt-oss" not in model_id.lower():
        return False
    broken = version_key("0.5.5") <= version_key(version) < version_key("0.5.5.post1")
    return broken or version_key(version) == version_key(SPARK_VERSION)
