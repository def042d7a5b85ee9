"""Which ufw rules a node gets: SSH never cut, peers in, strangers out, others' rules untouched."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, strategies as st
from samples import fabric_of, sparks, want

from cluster.findings import Level
from cluster.node.firewall import (
    WAS_OFF,
    RuleContext,
    UfwChange,
    find_obstacles,
    peer_addresses,
    plan_changes,
    plan_removal,
    required_rules,
)
from cluster.node.ufw import Login, Rule, Ufw, deciding_rule
from cluster.settings.schema import Settings

LOGIN = Login("10.0.0.200", "10.0.0.5", 22)
OFF = Ufw(ssh_ports=(22,), login=LOGIN)
OURS = "spark-serving sglang"
SSH = Rule(protocol="tcp", port="22", comment=OURS + WAS_OFF)


def places(nodes: int = 2) -> list[RuleContext]:
    facts, wanted = sparks(nodes), want(nodes)
    peers = peer_addresses(facts, fabric_of(wanted, facts))
    return [RuleContext(facts[n], peers, head=i == 0) for i, n in enumerate(wanted.names)]


def place(nodes: int = 1) -> RuleContext:
    return places(nodes)[0]


def wanted_rules(ufw: Ufw, at: RuleContext, **data: object) -> tuple[Rule, ...]:
    return required_rules(ufw, at, want(1, **data).common)


def lets_in(there: tuple[Rule, ...], protocol: str, port: int, source: str) -> bool:
    """Whether a new packet gets in where ufw drops what has no rule."""
    decides = deciding_rule(there, Rule(protocol=protocol, port=str(port), source=source))
    return decides is not None and not decides.blocks


def applied(ufw: Ufw, change: UfwChange) -> Ufw:
    """The node after ufw has made the change."""
    rest = tuple(rule for rule in ufw.rules if rule not in change.remove)
    active = (ufw.active or change.enable) and not change.disable
    return replace(ufw, active=active, rules=(*rest, *change.add))


def test_rules_of_a_node_of_two() -> None:
    rules = [str(rule) for rule in wanted_rules(OFF, place(2), api_networks=["10.0.0.9/24"])]
    assert rules == [
        "allow from any to any port 22 proto tcp",
        "allow from 192.168.100.11 to any proto tcp",
        "allow from 192.168.101.11 to any proto tcp",
        "allow from 192.168.100.11 to any port 4791 proto udp",
        "allow from 192.168.101.11 to any port 4791 proto udp",
        "allow from 10.0.0.0/24 to any port 30000 proto tcp",
    ]


WATCHED = {"monitoring_networks": ["10.1.0.0/16"], "monitoring_address": "management"}


def test_prometheus_and_alertmanager_are_opened_on_the_head_alone() -> None:
    head, worker = places(2)
    more = set(wanted_rules(OFF, head, **WATCHED)) - set(wanted_rules(OFF, head))
    assert sorted(map(str, more)) == [
        "allow from 10.1.0.0/16 to any port 9090 proto tcp",
        "allow from 10.1.0.0/16 to any port 9093 proto tcp",
    ]
    assert wanted_rules(OFF, worker, **WATCHED) == wanted_rules(OFF, worker)


@pytest.mark.parametrize(
    "unneeded",
    [{"monitoring_address": "loopback"}, {"monitoring": "absent"}, {"monitoring_networks": []}],
)
def test_what_nobody_else_reaches_has_no_rule(unneeded: dict[str, object]) -> None:
    settings = {**WATCHED, **unneeded}
    assert wanted_rules(OFF, place(2), **settings) == wanted_rules(OFF, place(2))


MONITOR = "10.9.0.7"
SCRAPED = [
    f"allow from {MONITOR} to any port 30000 proto tcp",
    f"allow from {MONITOR} to any port 9100 proto tcp",
]


def test_a_host_that_only_monitors_reaches_what_it_scrapes_on_every_node() -> None:
    """And nobody else does; what listens beside Prometheus is not on the head then."""
    for at in places(2):
        seen = replace(at, monitor=MONITOR)
        more = set(wanted_rules(OFF, seen, **WATCHED)) - set(wanted_rules(OFF, at))
        assert sorted(map(str, more)) == SCRAPED
        assert wanted_rules(OFF, seen, monitoring="absent") == wanted_rules(OFF, at)
        more = set(wanted_rules(OFF, seen, enable_metrics=False)) - set(wanted_rules(OFF, at))
        assert sorted(map(str, more)) == SCRAPED[1:]


def test_a_rule_that_blocks_the_monitor_is_reported_as_what_it_blocks() -> None:
    at, settings = replace(place(2), monitor=MONITOR), Settings()
    rules = (Rule(action="deny", port="9100"), Rule(source=MONITOR, port="30000"))
    ufw = Ufw(active=True, rules=rules, login=LOGIN, ssh_ports=(22,))
    findings = list(find_obstacles(ufw, required_rules(ufw, at, settings), at, settings))
    blocks = [f for f in findings if "blocks" in f.what]
    assert [f.what.partition("blocks ")[2] for f in blocks] == [f"node_exporter for {MONITOR}"]
    assert not any(f.key == "firewall-api-open" for f in findings)


API_PORT = "30000"


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(Rule(protocol="tcp", port=API_PORT), id="the-port"),
        pytest.param(Rule(), id="everything"),
        pytest.param(Rule(protocol="tcp", port="20000:40000"), id="a-range"),
        pytest.param(Rule(port=f"80,{API_PORT}", protocol="tcp"), id="a-list"),
        pytest.param(Rule(source="10.0.0.0/8", port=API_PORT), id="a-wider-network"),
        pytest.param(Rule(source="172.16.0.0/12"), id="another-network"),
        pytest.param(Rule(interface="wlan0"), id="an-interface"),
        pytest.param(Rule(action="limit", protocol="tcp", port=API_PORT), id="limit"),
    ],
)
def test_rules_that_widen_the_api_are_reported(rule: Rule) -> None:
    settings = Settings(api_networks=("10.0.0.0/24",))
    ufw = Ufw(active=True, rules=(rule,), login=LOGIN, ssh_ports=(22,))
    findings = list(find_obstacles(ufw, required_rules(ufw, place(), settings), place(), settings))
    (finding,) = (f for f in findings if f.key == "firewall-api-open")
    assert finding.level is Level.WARNING
    assert f"`{rule}` opens the API, port {API_PORT}, to more than api_networks" in finding.what
    narrow = rule.port != "any" and "22" not in rule.port
    assert finding.cure.startswith("sudo ufw delete" if narrow else "it opens more than the API")


@pytest.mark.parametrize(
    "others",
    [
        pytest.param((Rule(protocol="tcp", port="22"),), id="ssh"),
        pytest.param((Rule(source="10.0.0.7", port=API_PORT),), id="one-of-the-network"),
        pytest.param((Rule(source="192.168.100.11"),), id="a-peer"),
        pytest.param((Rule(interface="enp1s0f1np1"),), id="the-cable"),
        pytest.param((Rule(port=API_PORT, protocol="udp"),), id="udp"),
        pytest.param((Rule(port=API_PORT, v6=True),), id="ipv6-where-nothing-listens"),
        pytest.param((Rule(action="deny", port=API_PORT), Rule()), id="blocked-before"),
    ],
)
def test_rules_that_do_not_widen_the_api_are_not_reported(others: tuple[Rule, ...]) -> None:
    settings = Settings(api_networks=("10.0.0.0/24",))
    ufw = Ufw(active=True, rules=others, login=LOGIN, ssh_ports=(22,))
    at = place(2)
    findings = find_obstacles(ufw, required_rules(ufw, at, settings), at, settings)
    assert "firewall-api-open" not in {f.key for f in findings}


def test_an_api_open_to_all_is_accepted_when_declared() -> None:
    settings = Settings(api_networks=("0.0.0.0/0",))
    ufw = Ufw(active=True, rules=(Rule(port=API_PORT),), login=LOGIN, ssh_ports=(22,))
    obstacles = find_obstacles(ufw, (), place(), settings)
    assert "firewall-api-open" not in {f.key for f in obstacles}


@pytest.mark.parametrize(
    ("client", "server"), [("203.0.113.9", "10.0.0.5"), ("2001:db8::9", "2001:db8::5")]
)
def test_ssh_is_opened_for_the_logins_address_alone(client: str, server: str) -> None:
    """Where the owner lets SSH in from elsewhere; and a second run, by whatever way, keeps it."""
    owners = Rule(protocol="tcp", port="22", source="10.0.0.0/8")
    login = Login(client, server, 22)
    ufw = Ufw(active=True, rules=(owners,), login=login, ssh_ports=(22,))
    change = plan_changes(ufw, wanted_rules(ufw, place()), "sglang")
    assert change.lines() == (f"+ allow from {client} to any port 22 proto tcp",)
    again = applied(ufw, change)
    assert not plan_changes(again, wanted_rules(again, place()), "sglang")
    by_another = replace(again, login=Login("10.0.0.200", "10.0.0.5", 22))
    assert not plan_changes(by_another, wanted_rules(by_another, place()), "sglang")
    gone, finding = plan_removal(again, place(), "sglang")
    assert not gone.remove
    assert "without which SSH would be cut" in finding[0].what


def test_a_single_node_has_ssh_and_the_api() -> None:
    rules = [str(rule) for rule in wanted_rules(OFF, place(), api_networks=["0.0.0.0/0"])]
    assert rules == [
        "allow from any to any port 22 proto tcp",
        "allow from any to any port 30000 proto tcp",
    ]


@given(
    nodes=st.integers(2, 6),
    port=st.integers(1, 65535),
    stranger=st.ip_addresses(v=4).map(str),
)
def test_every_pair_talks_and_a_stranger_has_ssh_alone(
    nodes: int, port: int, stranger: str
) -> None:
    everyone = places(nodes)
    there = [wanted_rules(OFF, at, api_networks=["10.0.0.0/24"]) for at in everyone]
    assert all(mine[0].port == "22" for mine in there)
    for to, origin in permutations(range(nodes), 2):
        for address in everyone[origin].peers[everyone[origin].node.name]:
            assert lets_in(there[to], "tcp", port, address)
            assert lets_in(there[to], "udp", 4791, address)
    addresses = {a for mine in everyone[0].peers.values() for a in mine}
    if stranger not in addresses and not stranger.startswith("10.0.0."):
        assert lets_in(there[0], "tcp", port, stranger) == (port == 22)
    api = [lets_in(mine, "tcp", 30000, "10.0.0.77") for mine in there]
    assert api == [True] + [False] * (nodes - 1)


@pytest.mark.parametrize(
    ("there", "active", "expected"),
    [
        pytest.param((), False, [22, 2222], id="none: every port of sshd"),
        pytest.param((), True, [22], id="ufw is on: this login alone"),
        pytest.param((Rule(protocol="tcp", port="22"),), True, [], id="anybody may"),
        pytest.param(
            (Rule("limit", "tcp", "22", "10.0.0.0/8"),), True, [], id="narrower, but us too"
        ),
        pytest.param((Rule(protocol="tcp", port="22", source="10.9.0.0/16"),), True, [22],
                     id="others alone"),
        pytest.param((Rule(port="22", interface="enP7s7"),), True, [], id="our interface"),
        pytest.param((Rule(port="22", interface="wlP9s9"),), True, [22], id="other interface"),
        pytest.param((Rule(protocol="tcp", port="22", v6=True),), True, [22], id="IPv6 alone"),
        pytest.param((Rule("deny", port="22", source="10.7.0.0/16"), Rule(port="20:23,80")),
                     True, [], id="somebody else is denied"),
    ],
)  # fmt: skip
def test_ssh_keeps_what_lets_us_in(
    there: tuple[Rule, ...], active: bool, expected: list[int]
) -> None:
    ufw = Ufw(active=active, rules=there, ssh_ports=(22, 2222), login=LOGIN)
    assert [int(rule.port) for rule in wanted_rules(ufw, place())] == expected


def test_our_ssh_rule_stays_open_for_others() -> None:
    mine = Rule(protocol="tcp", port="22", source=LOGIN.client, comment="somebody's")
    facts = replace(OFF, active=True, rules=(mine, SSH))
    assert wanted_rules(facts, place()) == (SSH,)


def test_without_a_login_foreign_ssh_rules_are_kept() -> None:
    narrow = Rule(protocol="tcp", port="22", source="10.9.0.0/16")
    assert wanted_rules(Ufw(rules=(narrow,), ssh_ports=(22,)), place()) == ()
    assert [r.port for r in wanted_rules(Ufw(ssh_ports=(22,)), place())] == ["22"]


def test_first_run_enables_last() -> None:
    change = plan_changes(replace(OFF, incoming="ACCEPT"), wanted_rules(OFF, place()), "sglang")
    assert change.commands() == (
        ("allow", "from", "any", "to", "any", "port", "22", "proto", "tcp",
         "comment", OURS + WAS_OFF),
        ("default", "deny", "incoming"),
        ("--force", "enable"),
    )  # fmt: skip
    assert "dropped by default" in change.lines()[1]


@given(st.data())
def test_second_run_changes_nothing_and_others_keep_theirs(data: st.DataObject) -> None:
    foreign = tuple(data.draw(st.lists(st.sampled_from(FOREIGN), unique=True)))
    at = place(data.draw(st.integers(1, 3)))
    ports = data.draw(st.sampled_from([(22,), (22, 2222)]))
    ufw = Ufw(True, data.draw(st.booleans()), "DROP", foreign, ports, LOGIN)
    change = plan_changes(ufw, wanted_rules(ufw, at), "sglang")
    after = applied(ufw, change)
    assert not plan_changes(after, wanted_rules(after, at), "sglang")
    assert tuple(r for r in after.rules if r in foreign) == foreign
    assert lets_in(after.rules, "tcp", 22, LOGIN.client)
    gone = applied(after, plan_removal(after, at, "sglang")[0])
    assert tuple(r for r in gone.rules if r in foreign) == foreign
    assert not gone.active or lets_in(gone.rules, "tcp", 22, LOGIN.client)
    assert not plan_removal(gone, at, "sglang")[0]


FOREIGN = (
    Rule(protocol="tcp", port="22"),
    Rule(protocol="tcp", port="22", source="10.0.0.0/8", comment="office"),
    Rule(protocol="tcp", port="8080", comment="spark-serving other"),
    Rule("deny", "tcp", "3306"),
    Rule(protocol="tcp", source="192.168.100.11"),
)


def test_rules_of_a_vanished_address_are_removed() -> None:
    old = Rule(protocol="tcp", source="169.254.9.9", comment=OURS)
    ufw = Ufw(active=True, rules=(Rule(port="22"), old), login=LOGIN)
    change = plan_changes(ufw, wanted_rules(ufw, place(2)), "sglang")
    assert change.remove == (old,)
    assert change.commands()[-1] == (
        "delete", "allow", "from", "169.254.9.9", "to", "any", "proto", "tcp"
    )  # fmt: skip
    assert len(change.add) == 4


@pytest.mark.parametrize(
    ("rule", "level", "what"),
    [
        pytest.param(Rule("deny", "tcp", "22"), Level.ERROR, "SSH to port 22", id="ssh"),
        pytest.param(Rule("deny", source="10.0.0.200"), Level.ERROR, "SSH", id="our address"),
        pytest.param(Rule("deny", "tcp", "50000"), Level.ERROR, "the peer", id="rendezvous"),
        pytest.param(Rule("reject", source="192.168.0.0/16"), Level.ERROR, "peer", id="fabric"),
        pytest.param(Rule("deny", "udp", "4791"), Level.ERROR, "the peer", id="RoCE"),
        pytest.param(Rule("deny", "tcp", "30000"), Level.ERROR, "the API for 10.0", id="API"),
        pytest.param(Rule("deny", "tcp", "9090"), Level.ERROR, "Prometheus for 10.0", id="watch"),
        pytest.param(Rule("deny", source="10.0.0.13"), Level.WARNING, "some of 10.0", id="one"),
        pytest.param(Rule("deny", "tcp", "3306"), None, "", id="a port that nobody needs"),
        pytest.param(Rule("deny", source="203.0.113.0/24"), None, "", id="a stranger"),
        pytest.param(Rule("deny", interface="wlP9s9", port="50000"), None, "", id="Wi-Fi"),
    ],
)
def test_foreign_rules_in_the_way(rule: Rule, level: Level | None, what: str) -> None:
    opened = {"api_networks": ["10.0.0.0/25"], "monitoring_networks": ["10.0.0.0/25"]}
    settings, at = want(2, **opened, monitoring_address="management").common, place(2)
    facts = replace(OFF, rules=(rule,))
    findings = list(find_obstacles(facts, required_rules(facts, at, settings), at, settings))
    assert {f.level for f in findings} == ({level} if level else set())
    assert not level or any(what in f.what for f in findings)
    # after ours it does no harm
    wanted = required_rules(OFF, at, settings)
    assert not list(find_obstacles(replace(OFF, rules=(*wanted, rule)), wanted, at, settings))


def obstacles(ufw: Ufw) -> list[str]:
    return [f.what for f in find_obstacles(ufw, (), place(), Settings())]


def test_findings_about_ufw_itself() -> None:
    assert obstacles(Ufw(installed=False)) == ["ufw is not installed"]
    assert "allow incoming" in obstacles(replace(OFF, active=True, incoming="ACCEPT"))[0]
    assert "nothing listens for SSH" in obstacles(Ufw())[0]


def test_an_unreachable_api_is_reported() -> None:
    assert "only the nodes will reach the API, port 30000" in obstacles(OFF)[-1]
    theirs = Rule(protocol="tcp", port="30000", source="10.0.0.0/24")
    assert obstacles(replace(OFF, rules=(theirs,))) == []
    worker = places(2)[1]
    assert list(find_obstacles(OFF, (), worker, Settings())) == []


API = Rule(protocol="tcp", port="30000", source="10.0.0.0/24", comment=OURS + WAS_OFF)
THEIRS = Rule(protocol="tcp", port="8080")


@pytest.mark.parametrize(
    ("there", "active", "removed", "disabled"),
    [
        pytest.param((SSH, API), True, (SSH, API), True, id="ufw was off, nobody else's rules"),
        pytest.param((SSH, API, THEIRS), True, (API,), False, id="others' rules: SSH stays"),
        pytest.param((SSH, API, Rule(port="22")), True, (SSH, API), False, id="others' SSH"),
        pytest.param((replace(SSH, comment=OURS),), True, (), False, id="ufw was on before"),
        pytest.param((SSH, API), False, (SSH, API), False, id="ufw is off"),
        pytest.param((THEIRS,), True, (), False, id="nothing of ours"),
    ],
)
def test_removing_the_firewall_rules(
    there: tuple[Rule, ...], active: bool, removed: tuple[Rule, ...], disabled: bool
) -> None:
    change, _ = plan_removal(replace(OFF, active=active, rules=there), place(), "sglang")
    assert (change.remove, change.disable) == (removed, disabled)
