"""What a failed download means, and its cure."""

from __future__ import annotations

from cluster.findings import Finding, error

HUB = "https://huggingface.co"


def failed(
    kind: str, said: str, node: str, model: str, revision: str, endpoint: str, status: int = 0
) -> Finding:
    """One finding for what hub_client.py calls `kind`."""
    what, cure = _known(kind, model, revision, endpoint, status)
    return error(f"{what} ({said})" if said else what, node, cure)


def _known(kind: str, model: str, revision: str, endpoint: str, status: int) -> tuple[str, str]:
    hub = endpoint or HUB
    if kind == "gated":
        return (
            f"model {model} is gated, and "
            + (
                "the hub was shown no valid token" if status == 401 else "the token may not read it"
            ),
            f"accept its licence at {hub}/{model} with the token's account, give the token the "
            "right to read gated repositories, then: hf auth login, or export HF_TOKEN=…",
        )
    known = {
        "denied": (
            f"the hub does not let this token read {model}",
            "hf auth whoami; a new token: https://huggingface.co/settings/tokens",
        ),
        "repository": (
            f"the hub has no repository {model}, or it is private and the token may not read it",
            f"look at {hub}/{model}; --data model=ORG/NAME; or export HF_TOKEN=…",
        ),
        "revision": (
            f"repository {model} has no revision {revision!r}",
            f"look at {hub}/{model}/tree/main; --data revision=BRANCH (or a tag, or a commit)",
        ),
        "file": (f"repository {model} lacks a file that its own list has", "run this again"),
        "network": (
            f"the hub at {hub} could not be reached from the node",
            f"curl -sI {hub} there; hf_endpoint = a mirror; or put the weights into its hf_cache",
        ),
        "wrong": (
            f"a file of {model} came damaged twice: its hash is not the one that the hub lists",
            "run this again; a proxy or mirror (hf_endpoint) in between may be the cause",
        ),
        "still": (
            "the download of the weights stands still: no byte for download_stall_timeout",
            f"curl -sI {hub} there; run this again: it goes on where it stopped",
        ),
        "full": (
            "the disk is full in the middle of the download",
            "make room (df -h, docker image prune); run this again: it goes on where it stopped",
        ),
        "client": (
            "the image has no huggingface_hub to download with",
            "another image, or put the weights into hf_cache by hand",
        ),
    }
    return known.get(kind, (f"the download of {model} failed", "run this again"))
