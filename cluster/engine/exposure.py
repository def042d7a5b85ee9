"""Who may use the API that a group serves, and what the flaws of its SGLang let them do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network

from cluster.engine import versions
from cluster.findings import Finding, Refused, ok, warning
from cluster.rank import api_key
from cluster.rank.spec import Spec
from cluster.settings.schema import Settings

KEY = "set api_key_file=FILE in the inventory (umask 077; openssl rand -hex 32 > FILE)"
FIREWALL = "set api_networks=[…] there and run pyinfra -y INVENTORY deploys/firewall.py"

OTHERS = (
    "the nodes' other ports (dist_port, NCCL's and ZMQ's random ones) unpickle what they get, key "
    "or no key: set up a firewall that lets only the nodes in"
)


@dataclass(frozen=True)
class ApiAccess:
    """Where rank 0 answers, and to whom.

    + host: the address that it listens on
    + keyed: it requires a key
    + nodes: of its group; sglang: its version, "" for the embedded engine
    """

    host: str
    port: int
    keyed: bool
    nodes: int = 1
    sglang: str = ""


def declared_access(settings: Settings, nodes: int, version: str) -> ApiAccess:
    """As the settings want it; version: of the image's SGLang, "" if that could not be read."""
    return ApiAccess(settings.host, settings.port, bool(settings.api_key_file), nodes, version)


def running_access(spec: Spec) -> ApiAccess:
    """As a rank runs, by its label."""
    launch = spec.launch
    return ApiAccess(
        launch.host, launch.port, api_key.is_keyed(spec.volumes), launch.nnodes, spec.sglang
    )


def check_exposure(api: ApiAccess, settings: Settings) -> Iterator[Finding]:
    """A warning where everybody who reaches the port may use it; nothing on loopback.

    Nothing is read of a firewall: api_networks says what deploys/firewall.py would allow.
    """
    try:
        loopback = ip_address(api.host).is_loopback
    except ValueError:
        loopback = api.host == "localhost"
    if loopback:
        return
    prefixes = [ip_network(network, strict=False).prefixlen for network in settings.api_networks]
    if settings.runtime == "process":
        why = f"it listens on {api.host}, and the embedded engine requires no key"
        yield warning(_anybody(api, why), cure="--data host=127.0.0.1", key="api-open")
        return
    report: Callable[[str], Finding] = ok
    if api.keyed:
        access = f"the API on port {api.port} requires a key"
    elif prefixes and all(prefixes):
        networks = ", ".join(settings.api_networks)
        access = (
            f"the API on port {api.port} requires no key: once deploys/firewall.py has run, "
            f"only the nodes and {networks} can reach it"
        )
    else:
        access = _anybody(api, f"it listens on {api.host} and requires no key")
        newest = max((v.fixed for v in versions.VULNERABILITIES), key=versions.parse_version)
        newer = f"; use an image with SGLang {newest} or later: --data image=…"
        report = partial(
            warning, key="api-open", cure=f"{KEY}; or {FIREWALL}{newer * bool(_known_holes(api))}"
        )
    yield report("; ".join(filter(None, (access, _known_holes(api), OTHERS * (api.nodes > 1)))))


def _anybody(api: ApiAccess, why: str) -> str:
    return (
        f"anyone who can reach port {api.port} may use the API and the engine's "
        f"administration routes: {why}"
    )


def _known_holes(api: ApiAccess) -> str:
    """The published vulnerabilities of the version, or those that a build which names no release
    may have; "" for none. An invalid version is refused elsewhere."""
    try:
        holes = versions.vulnerabilities(api.sglang) if api.sglang else ()
        unknown = bool(api.sglang) and not versions.names_release(api.sglang)
    except Refused:
        return ""
    if unknown:
        latest = ", ".join(f"{h.name}, fixed in {h.fixed}" for h in versions.VULNERABILITIES)
        return f"SGLang's release is unknown; older ones run code that clients send: {latest}"
    named = ", ".join(f"{h.name} ({h.route}, fixed in {h.fixed})" for h in holes)
    return f"SGLang {api.sglang} runs code that clients send: {named}" if holes else ""
