"""Who may use the API: by the settings, and by what runs."""

from __future__ import annotations

import pytest
from samples import fabric_of, sparks, want

from cluster.catalog import models
from cluster.engine.exposure import ApiAccess, check_exposure, declared_access, running_access
from cluster.engine.versions import VULNERABILITIES, vulnerabilities
from cluster.findings import Finding, Level
from cluster.plan.specs import declared_specs
from cluster.settings.schema import Settings


def exposure(api: ApiAccess, settings: Settings | None = None) -> Finding | None:
    findings = list(check_exposure(api, settings or Settings()))
    assert len(findings) <= 1
    return findings[0] if findings else None


OPEN = ApiAccess("0.0.0.0", 30000, keyed=False, sglang="0.5.23")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "10.0.0.1"])
def test_an_open_api_is_warned_of_once_with_both_cures(host: str) -> None:
    finding = exposure(ApiAccess(host, 30123, keyed=False))
    assert finding is not None
    assert finding.level is Level.WARNING
    assert "anyone who can reach port 30123 may use the API" in finding.what
    assert host in finding.what
    assert "api_key_file=" in finding.cure
    assert "api_networks=" in finding.cure
    assert "deploys/firewall.py" in finding.cure


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3"])
def test_on_loopback_there_is_no_finding(host: str) -> None:
    assert exposure(ApiAccess(host, 30000, keyed=False, nodes=1, sglang="0.5.3.post3")) is None


def test_an_api_with_a_key_is_ok() -> None:
    finding = exposure(ApiAccess("0.0.0.0", 30000, keyed=True, sglang="0.5.23"))
    assert finding is not None
    assert finding.level is Level.OK
    assert "requires a key" in finding.what


@pytest.mark.parametrize(
    ("networks", "level"),
    [
        pytest.param(("192.168.1.0/24",), Level.OK, id="named"),
        pytest.param(("192.168.1.0/24", "0.0.0.0/0"), Level.WARNING, id="everybody"),
        pytest.param((), Level.WARNING, id="none"),
    ],
)
def test_a_firewall_that_is_described_counts(networks: tuple[str, ...], level: Level) -> None:
    finding = exposure(OPEN, Settings(api_networks=networks))
    assert finding is not None
    assert finding.level is level


def test_several_nodes_have_ports_that_no_key_closes() -> None:
    words = "the nodes' other ports"
    for keyed in (True, False):
        several = exposure(ApiAccess("0.0.0.0", 30000, keyed, nodes=2))
        one = exposure(ApiAccess("0.0.0.0", 30000, keyed, nodes=1))
        assert several is not None
        assert one is not None
        assert (words in several.what, words in one.what) == (True, False)
        assert "lets only the nodes in" in several.what


def test_the_embedded_engine_has_a_cure_of_its_own() -> None:
    finding = exposure(ApiAccess("0.0.0.0", 30000, keyed=False), Settings(runtime="process"))
    assert finding is not None
    assert (finding.level, finding.cure) == (Level.WARNING, "--data host=127.0.0.1")


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("0.5.3.post3", ["CVE-2025-10164"]),
        ("0.5.4", ["CVE-2025-10164"]),
        ("0.5.4.post1", ["CVE-2026-15969"]),
        ("0.5.19", ["CVE-2026-15969"]),
        ("0.5.21", ["CVE-2026-15969"]),
        ("0.5.22", []),
        ("0.5.23", []),
    ],
)
def test_known_vulnerabilities_of_a_version_are_named(version: str, names: list[str]) -> None:
    assert [vulnerability.name for vulnerability in vulnerabilities(version)] == names
    finding = exposure(ApiAccess("0.0.0.0", 30000, keyed=False, sglang=version))
    assert finding is not None
    assert all(name in finding.what for name in names)
    assert ("with SGLang 0.5.22 or later" in finding.cure) is bool(names)


def test_the_running_label_says_whether_a_key_is_required() -> None:
    """A label shows the key by its mount, whatever the current settings say."""
    facts = sparks()
    for key_file, keyed in (("~/key", True), ("", False)):
        wanted = want(api_key_file=key_file)
        specs = declared_specs(
            wanted, models.find_model("qwen7b"), fabric_of(wanted, facts), facts, "0.5.23"
        )
        api = running_access(specs[wanted.head])
        assert api == ApiAccess("0.0.0.0", 30000, keyed, nodes=2, sglang="0.5.23")
        assert api == declared_access(wanted.common, 2, "0.5.23")


def test_an_invalid_version_is_reported_elsewhere() -> None:
    finding = exposure(ApiAccess("0.0.0.0", 30000, keyed=False, sglang="main"))
    assert finding is not None
    assert "SGLang main" not in finding.what


def test_a_build_that_names_no_release_may_have_every_vulnerability() -> None:
    finding = exposure(ApiAccess("0.0.0.0", 30000, keyed=False, sglang="0.0.0.dev1+gabc"))
    assert finding is not None
    assert "SGLang's release is unknown; older ones run code that clients send" in finding.what
    assert all(v.name in finding.what for v in VULNERABILITIES)
    assert "with SGLang 0.5.22 or later" in finding.cure
