"""What a failed download means, and its cure."""

import re

from cluster.findings import Finding, error

HUB = "https://huggingface.co"
# The cure that any trouble with a draft model has.
NO_DRAFT = "or serve without the draft model: --data draft=none"
_GATED = (
    "accept its license at {hub}/{model} with the token's account, give the token the right to "
    "read gated repositories, then: hf auth login, or export HF_TOKEN=…"
)
# What hub_client.py calls it → what it means, and the cure.
BY_KIND = {
    "gated": ("model {model} is gated, and the token may not read it", _GATED),
    "gated 401": ("model {model} is gated, and the hub got no valid token", _GATED),
    "denied": (
        "this token may not read {model} on the hub",
        "hf auth whoami; a new token: https://huggingface.co/settings/tokens",
    ),
    "denied 401": (
        "the hub requires a valid token for {model}, and got none",
        "hf auth whoami; hf auth login, or export HF_TOKEN=…; a new token: "
        "https://huggingface.co/settings/tokens",
    ),
    "limited": (
        "the hub at {hub} is rate-limiting the node's address",
        "wait a few minutes, then run this again: it resumes where it stopped; requests with a "
        "token have a higher limit: hf auth login, or export HF_TOKEN=…",
    ),
    "server": (
        "the hub at {hub} failed with a server error",
        "check https://status.huggingface.co (or the mirror); run this again later: it resumes "
        "where it stopped",
    ),
    "other 404": (
        "the hub at {hub} has no such endpoint",
        "check that hf_endpoint has the hub's whole API: curl -s {hub}/api/models/{model}",
    ),
    "other 451": (
        "the hub no longer provides {model}, for legal reasons",
        "see {hub}/{model}; choose another model",
    ),
    "other 410": ("the hub no longer has {model}", "see {hub}/{model}; choose another model"),
    "repository": (
        "the hub has no repository {model}, or it is private and the token may not read it",
        "look at {hub}/{model}; --data model=ORG/NAME; or export HF_TOKEN=…",
    ),
    "revision": (
        "repository {model} has no revision {revision!r}",
        "look at {hub}/{model}/tree/main; --data revision=BRANCH (or a tag, or a commit)",
    ),
    "repository draft": (
        "the hub has no repository {model}, or it is private and the token may not read it",
        "look at {hub}/{model}; --data draft=ORG/NAME; or export HF_TOKEN=…",
    ),
    "revision draft": (
        "repository {model} has no revision {revision!r}",
        "look at {hub}/{model}/tree/main, and at the draft's revision in the catalog",
    ),
    "file": ("repository {model} is missing a file that it lists", "run this again"),
    "network": (
        "the hub at {hub} could not be reached from the node",
        "curl -sI {hub} there; hf_endpoint = a mirror; or copy the weights into its hf_cache",
    ),
    "wrong": (
        "a file of {model} arrived corrupt twice: its hash differs from the hub's list",
        "run this again; a proxy or mirror (hf_endpoint) in between may be the cause",
    ),
    "longer": (
        "the hub sends a larger file of {model} than it lists",
        "run this again; a proxy or mirror (hf_endpoint) in between may be the cause",
    ),
    "unfit": (
        "the hub at {hub} lists impossible files for {model}",
        "see {hub}/{model}/tree/main; set hf_endpoint to another mirror, or none; or put the "
        "weights into hf_cache by hand",
    ),
    "clear": (
        "the token would go to the hub at {hub} unencrypted, and was not sent",
        "use hf_endpoint = https://…, or no token: unset HF_TOKEN, hf auth logout",
    ),
    "still": (
        "the download of the weights stalled: no data within download_stall_timeout",
        "curl -sI {hub} there; run this again: it resumes where it stopped",
    ),
    "full": (
        "the disk filled up during the download",
        "free space (df -h, docker image prune); run this again: it resumes where it stopped",
    ),
    "client": (
        "the image has no huggingface_hub to download with",
        "use another image, or copy the weights into hf_cache by hand",
    ),
}
# What the text of an error means, where its kind alone is not enough.
BY_TEXT = (
    (
        r"certificate|SSLError|SSL:",
        "the node does not trust the certificate of the hub at {hub}",
        "set the node's clock (timedatectl); if a proxy intercepts TLS, put its CA into the image",
    ),
    (
        r"ProxyError|Tunnel connection failed|Proxy Authentication",
        "the proxy in front of the hub at {hub} blocks the node",
        "correct HTTPS_PROXY and NO_PROXY in env, or set hf_endpoint to a reachable mirror",
    ),
    (
        r"Failed to resolve|NameResolution|getaddrinfo|service not known|in name resolution",
        "the node cannot resolve the name of the hub at {hub}",
        "resolvectl query huggingface.co there; hf_endpoint = a mirror; or put the weights into "
        "its hf_cache",
    ),
    (
        r"[Oo]ffline ?[Mm]ode|outgoing traffic has been disabled|LocalEntryNotFound",
        "the download of {model} ran offline, and the files are missing",
        "remove HF_HUB_OFFLINE from env, then run this again",
    ),
    (
        r"Input/output error|Read-only file system|Stale file handle",
        "the disk under hf_cache is failing",
        "sudo dmesg | grep -i -e nvme -e 'I/O error' -e nfs; sudo smartctl -a /dev/nvme0n1",
    ),
    (
        r"Permission denied|Operation not permitted",
        "hf_cache cannot be written on the node",
        "ls -ld on hf_cache there; NFS needs no_root_squash; or --data hf_cache=a local folder",
    ),
    (
        r"IncompleteRead|ChunkedEncoding|Connection broken|Consistency check failed|CAS service",
        "the download of {model} from the hub was cut off",
        "run this again: it resumes where it stopped",
    ),
)
_UNKNOWN = ("the download of {model} failed", "run this again")


def explain_failure(
    kind: str,
    detail: str,
    node: str,
    model: str,
    revision: str,
    endpoint: str,
    status: int = 0,
    *,
    draft: bool = False,
) -> Finding:
    """One finding for what hub_client.py calls `kind`.

    + status: the hub's answer, 0 for none
    + draft: the model is a draft model
    """
    meaning = BY_KIND.get(f"{kind} {status}") or (draft and BY_KIND.get(f"{kind} draft"))
    if not meaning and kind in ("network", "still", "file", "other"):
        texts = ((what, cure) for words, what, cure in BY_TEXT if re.search(words, detail))
        meaning = next(texts, None)
    meaning = meaning or BY_KIND.get(kind, _UNKNOWN)
    words = {"model": model, "revision": revision, "hub": endpoint or HUB}
    what, cure = (text.format(**words) for text in meaning)
    cure = f"{cure}; {NO_DRAFT}" if draft else cure
    key = f"hub-{kind if kind in BY_KIND else 'other'}"
    return error(f"{what} ({detail})" if detail else what, node, cure, key=key)


def find_unencrypted_token(endpoint: str, token: str, node: str, model: str) -> Finding | None:
    """The finding if the token would travel over plain HTTP; None otherwise."""
    if not token or not endpoint or endpoint.lower().startswith("https://"):
        return None
    return explain_failure("clear", "", node, model, "", endpoint)
