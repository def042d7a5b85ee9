"""What an inventory and the command line may say, and how each mistake is reported."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given, settings as profile, strategies as st
from pyinfra_cli.util import parse_cli_arg
from samples import declare

from cluster.findings import Level, Refused
from cluster.settings.declaration import HostData, parse_declaration, parse_settings
from cluster.settings.parse import EXAMPLES, LISTS, SECRET_ENV, allowed_values, convert
from cluster.settings.schema import NAMES, PER_NODE, Settings

DEFAULTS = Settings()


def refusal(*hosts: HostData) -> list[str]:
    with pytest.raises(Refused) as refused:
        parse_declaration(hosts)
    assert all(f.level is Level.ERROR and f.cure for f in refused.value.findings)
    return [str(f) for f in refused.value.findings]


def host(name: str = "spark-1", *groups: str, **data: Any) -> HostData:
    layers = [data["env"]] if "env" in data else []
    return HostData(name, groups or ("head",), data, layers)


# ---- each setting's type and range

PORT = "an integer from 1 to 65535"
POSITIVE = "an integer of at least 1"
SECONDS = "an integer from 1 to 86400"
FRACTION = "a number between 0 and 1"
TRUTH = "true or false"
STRING = "a string"
IMAGE = "an image reference: REPOSITORY:TAG, or REPOSITORY@sha256:…"
NAME = "two or more letters, digits, _, . and -, the first a letter or digit"
SIZE = "a number with the unit b, k, m or g"
WORDS = "a list of strings"
SERVED = "a string without a colon and without spaces at its ends"
IPV4 = "an IPv4 address"
PATH = "an absolute path, or one that begins with ~/"
CACHE = "auto, none, an absolute path, or one that begins with ~/"
GPUS = "all, none, a number, device=ID,ID …, or CDI devices: nvidia.com/gpu=all"
VOLUMES = "a list of SOURCE:TARGET[:ro], both absolute paths (~ is not expanded)"
NETWORKS = "a list of IPv4 networks like 192.168.1.0/24"
URL = "an http(s) URL, or empty"
REVISION = "a commit, branch or tag of the model's repository"
MTU = "an integer from 1280 to 9978"
VARIANT = "a variant's name, or auto"
WATCH = "loopback, management, or an IPv4 address of the machine"
RETENTION = "a number with the unit h, d, w or y: 15d"
DISK = "an integer from 1 to 100000"
FLOOR = "an integer from 0 to 64"
DRAFT = "auto, none, or a repository on the hub: ORG/NAME"

ALLOWED = {name: allowed_values(name) for name in NAMES}
WRONG: dict[str, tuple[Any, ...]] = {
    PORT: (0, 65536, -1, 30000.0, "30000", True, None, [30000], 10**30),
    f"{POSITIVE} or auto": (0, -3, 1.5, "2", "automatic", True, [1]),
    SECONDS: (0, -1, 86401, "600", 1.5, True, None),
    f"{SECONDS} or auto": (0, 86401, "600", "Auto", 1.5, True),
    f"{FRACTION} or auto": (0, 1, 1.0, 0.0, -0.5, 90, "0.85", float("nan"), float("inf"), True),
    TRUTH: (0, 1, "yes", "on", "", None, [True]),
    f"{TRUTH} or auto": (0, 1, "yes", "Auto", [True]),
    STRING: (7, 1.5, True, None, ["a"], {"a": 1}, "nul\0", "half \ud800"),
    IMAGE: (
        *("", "--privileged", "-v", "a b", "a\n", "\na", "a\x1b[1m", "a\t"),
        *(7, 1.5, True, None, ["a"], "nul\0", "half \ud800"),
    ),
    f"{STRING} or an integer": (1.5, True, None, ["a"], "nul\0"),
    NAME: ("", "a", "-a", "a b", "a/b", "a\n", "ab\n", 7, None, "ü1"),
    SIZE: ("", "32G", "32gb", "g", "-1g", "1.5g", "1g\n", 32, None),
    SERVED: ("a:b", ":", "a ", " a", " ", "a\n", 7, True, None, ["a"], "nul\0"),
    IPV4: ("", "::", "localhost", "10.0.0", "10.0.0.256", "010.0.0.1", "10.0.0.1\n", 0, None),
    PATH: ("", "raid", "./raid", "~ann/x", "/a:b", "/a\n", 7, None, "/nul\0"),
    CACHE: ("", "raid", "Auto", "./raid", "~ann/x", "/a:b", "/a\n", 7, "/nul\0"),
    GPUS: (
        *("", "0", "-1", "All", "1.5", "device=", "device=0,", "0,1", "all ", "all\n"),
        *('"device=0,1"', 1, True, None, ["all"]),
    ),
    VOLUMES: (
        *(5, True, None, ["/a:/b", 1], {"a": 1}, "/a", "~/a:/b", "a:/b", "/a:b"),
        *("/a:/b:rx", "/a:/b:ro:z", "/a:", ["/a:/b\n"], ["/nul\0:/b"]),
    ),
    NETWORKS: (
        *(5, None, [1], "10.0.0.0", "10.0.0.0/33", "10.0.0.256/24", "fe80::/64"),
        *(["10.0.0.0/8\n"], "lan", {"10.0.0.0/8": 1}),
    ),
    URL: ("hub", "ftp://hub", "http://", "http:///x", "https://a b", "http://a\n", 7, None, ["a"]),
    REVISION: ("-x", "a b", "../x", "a\n", "ü", 7, True, None, ["main"], "nul\0"),
    VARIANT: ("", "Low-Latency", "-x", "a b", "a\n", 7, True, ["auto"], "nul\0"),
    DRAFT: ("", "draft", "a/b/c", "/a", "-x/y", "a/b\n", 7, True, ["none"], "nul\0"),
    WATCH: ("", "every", "Loopback", "10.0.0.256", "::", "10.0.0.5\n", 0, True, None, ["loopback"]),
    RETENTION: ("", "forever", "0d", "15", "1.5d", "-1d", "15D", "15d\n", "1d12h", 15, None),
    DISK: (0, -1, 100001, "10", 1.5, True, None),
    FLOOR: (-1, 65, "2", 1.5, True, None),
    MTU: (0, 1279, 9979, "9000", 1.5, True, None),
    WORDS: (5, True, None, ["a", 1], [None], {"a": 1}, ["nul\0"]),
    "a mapping of variable names to strings": (
        *(5, None, "A=1", ["A"], {"A": None}, {"A": True}, {"A": [1]}),
        *({"1A": "x"}, {"A-B": "x"}, {"": "x"}, {"A\n": "x"}, {"A": "nul\0"}, {1: "x"}),
    ),
}
LITERALS = {name: allowed for name, allowed in ALLOWED.items() if allowed.startswith("one of ")}


WRONG_VALUES = [
    pytest.param(name, value, allowed, id=f"{name}={value!r}")
    for name, allowed in ALLOWED.items()
    for value in WRONG.get(allowed, ("", "On", "none at all", 1, True, ["auto"]))
]


def test_every_kind_of_value_is_covered() -> None:
    assert set(ALLOWED.values()) - set(LITERALS.values()) == set(WRONG)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("value", ["it's", 'say "no', "ends in \\"])
def test_an_open_quote_is_reported_as_such(name: str, value: str) -> None:
    (message,) = refusal(host(**{name: value}))
    assert message.startswith(
        f"{name} = {value!r} is not allowed: it has a quote or a backslash without its counterpart"
    )


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG_VALUES)
def test_wrong_value_names_setting_value_allowed_and_cure(
    name: str, value: Any, allowed: str
) -> None:
    (finding,) = refusal(host(**{name: value}))
    shown = value if name != "env" or not isinstance(value, dict) else dict(value)
    assert finding.startswith(f"{name} = {shown!r} is not allowed: it must be {allowed}")
    assert f" -> --data {name}=" in finding or f"--data '{name}=" in finding


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("env", *LISTS)])
def test_the_suggested_fix_is_itself_accepted(name: str) -> None:
    """What the cure says is itself accepted, as the shell and pyinfra would hand it over."""
    (finding,) = refusal(host(**{name: ["wrong"]}))
    word = shlex.split(finding.partition(" -> ")[2])[1]
    given_name, _, value = word.partition("=")
    assert given_name == name
    settings = convert(name, parse_cli_arg(value))
    assert settings == getattr(DEFAULTS, name) or value == "..." or name in EXAMPLES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, word, id=f"{name}={word}")
        for name, allowed in LITERALS.items()
        for word in allowed.removeprefix("one of ").split(", ")
    ],
)
def test_each_word_of_a_choice_is_taken(name: str, value: str) -> None:
    assert getattr(parse_settings(host(**{name: value})), name) == value


# ---- as `--data NAME=TEXT` delivers it

TYPED = [
    ("mem_fraction", "0.85", 0.85),
    ("mem_fraction", "auto", "auto"),
    ("mem_fraction", "8.5e-1", 0.85),
    ("port", "30001", 30001),
    ("port", "0030001", 30001),
    ("image", "lmsysorg/sglang:v0.5.19-cu130", "lmsysorg/sglang:v0.5.19-cu130"),
    ("image", "registry:5000/a/b@sha256:ab", "registry:5000/a/b@sha256:ab"),
    ("model", "7", 7),
    ("model", "007", 7),
    ("model", "qwen72b", "qwen72b"),
    ("model", "openai/gpt-oss-20b", "openai/gpt-oss-20b"),
    ("model", "/models/x", "/models/x"),
    ("head_only", "true", True),
    ("head_only", "False", False),
    ("trust_remote_code", "TRUE", True),
    ("rdma", "on", "on"),
    ("rdma", "off", "off"),
    ("rdma", "null", "auto"),
    ("ready_timeout", "null", "auto"),
    ("restart_policy", "no", "no"),
    ("sglang_version", '"0.5"', "0.5"),
    ("sglang_version", "0.5.3.post3", "0.5.3.post3"),
    ("served_model_name", '"007"', "007"),
    ("served_model_name", "", ""),
    ("gpus", '"1"', "1"),
    ("gpus", "device=0", "device=0"),
    ("gpus", "device=GPU-3a23c669", "device=GPU-3a23c669"),
    ("gpus", "device=0,1", "device=0,1"),
    ("gpus", "nvidia.com/gpu=all", "nvidia.com/gpu=all"),
    ("gpus", "nvidia.com/gpu=0,nvidia.com/gpu=1", "nvidia.com/gpu=0,nvidia.com/gpu=1"),
    ("host", "127.0.0.1", "127.0.0.1"),
    ("served_model_name", "org/my model", "org/my model"),
    ("volumes", "/a:/b:rw", ("/a:/b:rw",)),
    ("extra_args", "", ()),
    ("extra_args", "--log-level debug", ("--log-level", "debug")),
    ("extra_args", "--a 'b c' --d=e", ("--a", "b c", "--d=e")),
    ("extra_args", '["--a", "b c"]', ("--a", "b c")),
    ("volumes", "/a:/b:ro /c:/d", ("/a:/b:ro", "/c:/d")),
    ("env", '{"A": "1"}', {"A": "1"}),
    ("env", '{"A": 1, "B": 0.5}', {"A": "1", "B": "0.5"}),
    ("env", "{}", {}),
    ("address", "192.168.100.10", "192.168.100.10"),
    ("nccl_ib_hca", "rocep1s0f1,roceP2p1s0f1", "rocep1s0f1,roceP2p1s0f1"),
    ("hf_cache", "~/hf", "~/hf"),
]
MISTYPED = [
    ("sglang_version", "1.10", """--data 'sglang_version="1.1"'"""),
    ("sglang_version", "0.5", """--data 'sglang_version="0.5"'"""),
    ("served_model_name", "007", """--data 'served_model_name="7"'"""),
    ("gpus", "1", """--data 'gpus="1"'"""),
    ("model", "1e3", """--data 'model="1000.0"'"""),
    ("hf_token_file", "true", "--data hf_token_file="),
    ("mem_fraction", "NaN", "between 0 and 1"),
    ("mem_fraction", "85", "between 0 and 1"),
    ("head_only", "1", "true or false"),
    ("head_only", "yes", "true or false"),
    ("env", "A=1", """--data 'env={"NAME": "value"}'"""),
    ("env", '{"A": true}', "a mapping of variable names to strings"),
    ("extra_args", "--json '{", "a quote or a backslash without its counterpart"),
    ("extra_args", "7", "a list of strings"),
    ("ready_timeout", "600s", "from 1 to 86400 or auto"),
    ("state", "None", "one of running, stopped, absent"),
]


@pytest.mark.parametrize(
    ("name", "typed", "value"), [pytest.param(*row, id=f"{row[0]}={row[1]}") for row in TYPED]
)
def test_typed_value_is_taken(name: str, typed: str, value: Any) -> None:
    parsed = getattr(parse_settings(host(**{name: parse_cli_arg(typed)})), name)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "typed", "says"), [pytest.param(*row, id=f"{row[0]}={row[1]}") for row in MISTYPED]
)
def test_mistyped_value_is_refused(name: str, typed: str, says: str) -> None:
    (finding,) = refusal(host(**{name: parse_cli_arg(typed)}))
    assert finding.startswith(f"{name} = ")
    assert says in finding


# ---- names


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        pytest.param("modle", "did you mean model", id="letters-swapped"),
        pytest.param("mem_fracton", "did you mean mem_fraction", id="letter-missing"),
        pytest.param("tensor_paralel", "did you mean tensor_parallel", id="one-l"),
        pytest.param("tensor-parallel", "did you mean tensor_parallel", id="dash"),
        pytest.param("head_conatiner", "did you mean head_container", id="container"),
        pytest.param("PORT", "PORT is not a setting", id="capitals"),
        pytest.param("zzz", "zzz is not a setting ->", id="nothing-near"),
        pytest.param("", " is not a setting", id="empty"),
        pytest.param("worker_container_name", "did you mean worker_container", id="seed-name"),
    ],
)
def test_unknown_setting_names_the_nearest(name: str, meant: str) -> None:
    (finding,) = refusal(host(**{name: "x"}))
    assert meant in finding
    assert "docs/settings.md" in finding


@pytest.mark.parametrize(
    "name",
    ["ssh_user", "ssh_paramiko_connect_kwargs", "_sudo", "fake_responses", "docker_identifier"],
)
def test_data_of_pyinfra_and_its_connectors_is_ignored(name: str) -> None:
    assert parse_settings(host(**{name: object()})) == DEFAULTS


def test_all_mistakes_are_reported_at_once() -> None:
    findings = refusal(host(modle="x", port=0, rdma="maybe"), host("spark-2", "workers", gpus=1))
    assert [line.split()[0] for line in findings] == ["modle", "port", "rdma", "gpus"]


def test_a_mistake_shared_by_all_nodes_is_reported_once() -> None:
    assert len(refusal(*declare(8, port=0))) == 1


def test_none_is_auto_where_auto_exists() -> None:
    settings = parse_settings(host(mem_fraction=None, rdma=None, ready_timeout=None, twins=None))
    assert settings == DEFAULTS


# ---- env


def test_env_layers_merge_stronger_over_weaker() -> None:
    layers = [{"A": "all", "B": "all", "C": "all"}, {"B": "group", "C": "group"}, {"C": 3}]
    settings = parse_settings(HostData("spark-1", ("head",), {"env": {"C": 3}}, layers))
    assert settings.env == {"A": "all", "B": "group", "C": "3"}


def test_env_of_any_layer_is_checked() -> None:
    layers = [{"1A": "x"}, {"B": "fine"}]
    (finding,) = refusal(HostData("spark-1", ("head",), {"env": {"B": "fine"}}, layers))
    assert finding.startswith("env = {'1A': 'x'} is not allowed")


@pytest.mark.parametrize("name", SECRET_ENV)
def test_a_token_in_env_is_refused_without_showing_it(name: str) -> None:
    (finding,) = refusal(host(env={name: "hf_sesame"}))
    assert finding.startswith(f"env must not hold {name}")
    assert "hf_sesame" not in finding
    assert "hf_token_file" in finding


def test_a_token_hidden_in_a_weaker_layer_is_refused_too() -> None:
    layers = [{"HF_TOKEN": "hf_sesame"}, {}]
    (finding,) = refusal(HostData("spark-1", ("head",), {"env": {}}, layers))
    assert "HF_TOKEN" in finding


# ---- groups

HEAD, WORKERS = ("head",), ("workers",)


@pytest.mark.parametrize(
    ("hosts", "says"),
    [
        pytest.param([], "the group `head` has no host", id="empty"),
        pytest.param([("a", WORKERS)], "the group `head` has no host", id="no-head"),
        pytest.param([("a", HEAD), ("b", HEAD)], "has 2 hosts (a, b)", id="two-heads"),
        pytest.param([("a", (*HEAD, *WORKERS))], "a is in both `head` and `workers`", id="both"),
        pytest.param([("a", HEAD), ("b", (*WORKERS,) * 2)], "b is listed twice in one", id="twice"),
        pytest.param([("a", HEAD), ("b", ("spare",))], "b is in neither `head` nor", id="neither"),
        pytest.param([("a", HEAD), ("b", ())], "b is in neither `head` nor", id="no-group"),
    ],
)
def test_impossible_groups_are_refused(hosts: list[tuple[str, tuple[str, ...]]], says: str) -> None:
    findings = refusal(*(HostData(name, groups, {}) for name, groups in hosts))
    assert says in findings[0]
    assert len(findings) == 1


def test_pyinfras_duplicate_connector_host_is_accepted() -> None:
    local = HostData("@local", ("head", "spark", "@local", "head", "spark"), {})
    assert parse_declaration([local]).names == ("@local",)


def test_ranks_follow_the_inventory_with_the_head_first() -> None:
    hosts = [host("c", "workers"), host("b", "head", "rack-1"), host("a", "workers")]
    assert parse_declaration(hosts).names == ("b", "c", "a")


def test_nodes_must_agree() -> None:
    findings = refusal(host("a", port=30000), host("b", "workers", port=30001))
    assert findings == [
        "port differs between the nodes (a: 30000, b: 30001): it must be the same on all -> "
        "set port for all nodes, in group data or with --data port=…"
    ]


def test_a_default_equals_the_same_value_given_explicitly() -> None:
    assert parse_declaration([host("a", port=30000), host("b", "workers")]).common.port == 30000


# What is allowed → a value that no setting has by default.
KINDS: dict[str, Any] = {
    **{VARIANT: "eagle", DRAFT: "none", SIZE: "1g", IPV4: "127.0.0.1", URL: "http://hub"},
    **{NETWORKS: ["10.0.0.0/8"], MTU: 1500, WATCH: "management", RETENTION: "3d"},
}


@pytest.mark.parametrize("name", [n for n in NAMES if n not in PER_NODE])
def test_a_setting_of_the_group_may_not_differ(name: str) -> None:
    others: dict[type, Any] = {str: "other", int: 17, tuple: ["--other"]}
    default = getattr(DEFAULTS, name)
    choices = ALLOWED[name].removeprefix("one of ").split(", ")
    value = (not default) if isinstance(default, bool) else others[type(default)]
    if ALLOWED[name].startswith("one of "):
        value = next(c for c in choices if c != default)
    elif value_of_kind := KINDS.get(ALLOWED[name]):
        value = value_of_kind
    elif "or auto" in ALLOWED[name]:
        value = True if TRUTH in ALLOWED[name] else 0.5 if FRACTION in ALLOWED[name] else 17
    findings = refusal(host("a"), host("b", "workers", **{name: value}))
    assert findings[0].startswith(f"{name} differs between the nodes (a: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("address", "10.0.0.1"),
        ("nccl_ib_hca", "rocep1s0f1"),
        ("nccl_socket_ifname", "eth0"),
        ("gloo_socket_ifname", "eth0"),
        ("hf_cache", "/data"),
        ("tiktoken_dir", "/data"),
        ("env", {"A": "1"}),
        ("volumes", ["/a:/b"]),
        ("gpus", "none"),
    ],
)
def test_a_nodes_own_setting_may_differ(name: str, value: Any) -> None:
    declaration = parse_declaration([host("a"), host("b", "workers", **{name: value})])
    assert getattr(declaration.nodes["b"], name) != getattr(declaration.nodes["a"], name)


def test_head_only_leaves_the_workers_idle() -> None:
    declaration = parse_declaration(declare(3, head_only=True))
    assert (declaration.names, tuple(declaration.idle)) == (("spark-1",), ("spark-2", "spark-3"))


def test_no_node_is_idle_otherwise() -> None:
    assert not parse_declaration(declare(3)).idle


# ---- anything at all

ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JUNK = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
LIKELY = st.sampled_from(
    [*("auto", "on", "off", "no", "none", "32g", "a/b", "--x 'y", '"', "\\"), "\ud800", "\0", b"x"]
)


@profile(max_examples=150)
@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=6), JUNK | LIKELY, max_size=6))
def test_any_data_is_settings_or_refused(data: dict[str, Any]) -> None:
    try:
        (declaration,) = parse_declaration([host(**data)]).nodes.values()
    except Refused as refused:
        assert refused.findings
        str(refused)
    else:
        assert isinstance(declaration, Settings)


@profile(max_examples=100)
@given(st.sampled_from(NAMES), st.text(max_size=12))
def test_anything_typed_is_settings_or_refused(name: str, typed: str) -> None:
    try:
        parse_settings(host(**{name: parse_cli_arg(typed)}))
    except Refused as refused:
        assert len(refused.findings) == 1


@profile(max_examples=60)
@given(st.lists(JUNK, min_size=1, max_size=3))
def test_any_env_layers_are_settings_or_refused(layers: list[Any]) -> None:
    try:
        parse_settings(HostData("a", ("head",), {"env": layers[-1]}, layers))
    except Refused as refused:
        assert refused.findings[0].what.startswith("env")


@pytest.mark.parametrize("name", ["hf_endpoint", "tiktoken_source"])
@pytest.mark.parametrize("user", ["me", "me:secret", ":secret", "me:se@cret", "me:"])
def test_a_url_with_a_user_is_refused_without_its_password(name: str, user: str) -> None:
    (finding,) = refusal(host(**{name: f"http://{user}@hub.lan:8080/x"}))
    assert finding.startswith(f"{name} = 'http://***@hub.lan:8080/x' is not allowed")
    assert f"--data {name}=http://hub.lan:8080/x" in finding
    assert "cret" not in finding


@pytest.mark.parametrize("url", ["https://hub.lan/a@b", "http://hub.lan?x=a@b", ""])
def test_a_url_without_a_user(url: str) -> None:
    assert convert("hf_endpoint", url) == url
