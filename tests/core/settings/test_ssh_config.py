"""~/.ssh/config as pyinfra reads it against as ssh does: by both of their own readers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
from pyinfra.api import State
from pyinfra.context import ctx_state

from cluster.findings import Refused
from control import inventory as inventories

pytestmark = pytest.mark.skipif(not shutil.which("ssh"), reason="no OpenSSH client here")

Told = Callable[..., str]


@pytest.fixture(autouse=True)
def run_of_pyinfra() -> Iterator[None]:
    """pyinfra reads an inventory within a run of its own."""
    with ctx_state.use(State()):
        yield


@pytest.fixture
def refusal_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """What is refused of an inventory with spark-1, with this text as ~/.ssh/config; "" if nothing.

    + files: others in ~/.ssh, by name; data: the inventory's settings of spark-1
    """
    ssh = tmp_path / ".ssh"
    ssh.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def refusal_of(text: str, data: dict[str, object] | None = None, **files: str) -> str:
        config = ssh / "config.test"
        config.write_text(text)
        for name, content in files.items():
            (ssh / name).write_text(content)
        # pyinfra reads each file once for a process.
        inventories.get_ssh_config.cache.clear()
        settings = {"ssh_config_file": str(config)} | (data or {})
        inventory = tmp_path / "two.py"
        inventory.write_text(f"head = [('spark-1', {settings!r})]\nworkers = []\n")
        try:
            inventories.load_inventory(str(inventory))
        except Refused as refused:
            return "\n".join(map(str, refused.findings))
        return ""

    return refusal_of


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("Host spark-1\n  HostName 10.0.0.5\n  Port 2222\n  User me\n", id="usual"),
        pytest.param("Host spark-*\n  User me\nHost *\n  Port 2200\n", id="patterns"),
        pytest.param("Host !spark-2 spark-*\n  Port 2200\n", id="negation"),
        pytest.param("Host spark-1\n  ProxyJump gw\n", id="one-jump"),
        pytest.param("Host spark-1\n  ProxyJump me@10.0.0.1:2200\n", id="jump-with-all"),
        pytest.param("Host spark-1\n  ProxyJump a,b\n", id="two-jumps-by-their-own-names"),
        pytest.param("Host gw\n HostName 10.0.0.1\n Port 22\nHost spark-1\n ProxyJump gw\n",
                     id="the-first-jump-has-an-entry"),
        pytest.param("Host spark-1\n  ProxyCommand ssh -W %h:%p gw\n", id="proxy-command"),
        pytest.param("Match host spark-1\n  User me\n", id="match-host"),
        pytest.param("Match originalhost spark-1\n  Port 2222\n", id="match-original-host"),
        pytest.param("Include more\nHost spark-1\n  User me\n", id="include"),
        pytest.param("Host spark-1\n  IdentitiesOnly yes\n  IdentityFile ~/.ssh/key\n", id="key"),
        pytest.param("Host spark-1\n  IdentityFile %d/.ssh/key\n", id="key-by-token"),
        pytest.param("Host spark-1\n  IdentityAgent none\n", id="no-agent"),
        pytest.param("Host *\n  UserKnownHostsFile ~/.ssh/a ~/.ssh/b\n", id="two-known-hosts"),
        pytest.param("Host spark-1 # the head\n  User=me # who\n", id="comments"),
        pytest.param("Host spark-1\n  ControlMaster auto\n  ControlPath ~/.ssh/%r@%h\n"
                     "  ServerAliveInterval 30\n  ForwardAgent yes\n", id="what-does-not-matter"),
    ],
)  # fmt: skip
def test_ssh_config_read_alike_by_both_is_accepted_silently(
    refusal_of: Told, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert refusal_of(text, key="a key", more="Host spark-1\n  Port 2200\n") == ""
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("Host spark-1\n  ProxyJump none\n", "`ProxyJump none`", id="jump-none"),
        pytest.param("Host spark-1\n  ProxyCommand none\n", "`ProxyCommand none`", id="no-command"),
        pytest.param("Host spark-1\n  ProxyJump ssh://me@gw:22\n", "USER@HOST:PORT", id="jump-url"),
        pytest.param("Host spark-1\n  ProxyJump [fd00::1]:22\n", "IPv6", id="jump-ipv6"),
        pytest.param("Host gw\n  ProxyJump outer\nHost spark-1\n  ProxyJump gw\n",
                     "ProxyJump FIRST,gw", id="a-jump-with-a-jump"),
        pytest.param("Host b\n  HostName 10.0.0.2\nHost spark-1\n  ProxyJump a,b\n",
                     "ProxyJump …,10.0.0.2:22", id="second-jump-by-alias"),
        pytest.param("Host b\n  Port 2200\nHost spark-1\n  ProxyJump a,b\n", "b:2200",
                     id="second-jump-with-a-port"),
        pytest.param("Host spark-1\n  ProxyCommand exec ssh -W %h:%p gw\n", "without a shell",
                     id="exec"),
        pytest.param("Host spark-1\n  ProxyCommand ssh gw nc %h %p 2>/dev/null\n",
                     "without a shell", id="shell-words"),
        pytest.param("Host spark-1\n  ProxyCommand nc %n %p\n", "%n", id="token-of-a-command"),
        pytest.param("Match exec true\n  Port 2222\n", "for ssh the port is 2222",
                     id="match-exec"),
        pytest.param("Include one two\n", "for ssh the port is 2200", id="two-includes-in-a-line"),
        pytest.param("Include other\nPort 2222\n", "for ssh the port is 2222",
                     id="an-include-that-ends-under-another-host"),
        pytest.param("Host spark-1\n  ConnectTimeout 5m\n", "connecttimeout 300", id="minutes"),
        pytest.param("Host spark-1\n  IdentityFile ~/.ssh/gone\n", "can't be read", id="no-key"),
        pytest.param("Host spark-1\n  IdentityFile none\n", "can't be read", id="key-none"),
        pytest.param("Host spark-1\n  IdentityFile ~/.ssh/%n\n", "%n", id="token-of-a-key"),
        pytest.param("Host spark-1\n  IdentityAgent SSH_AUTH_SOCK\n", "as a file name", id="agent"),
        pytest.param("Host spark-1\n  IdentityAgent ${SOCK}\n", "as a file name", id="variable"),
        pytest.param("Host *\n  UserKnownHostsFile none\n", "a file name", id="known-hosts-none"),
        pytest.param("Host *\n  UserKnownHostsFile ~/.ssh/%k\n", "as a file name", id="by-token"),
        pytest.param("Host spark-1\n  HostKeyAlias first\n", "HostKeyAlias=spark-1", id="alias"),
        pytest.param("Host spark-1\n  HostName 10.0.0.5\n  Port 2222\n  HostKeyAlias first\n",
                     "HostKeyAlias=[10.0.0.5]:2222", id="alias-with-a-port"),
        pytest.param("CanonicalizeHostname yes\n", "can't read", id="canonical-without-domains"),
        pytest.param("Match all host spark-1\n  Port 22\n", "can't read", id="match-unreadable"),
        pytest.param("Host 'spark-1\n  Port 22\n", "can't read", id="quote-without-its-end"),
        pytest.param("Include config.test\n", "can't read", id="includes-itself"),
    ],
)  # fmt: skip
def test_ssh_config_pyinfra_misreads_is_named_with_a_fix(
    refusal_of: Told, text: str, says: str
) -> None:
    message = refusal_of(text, key="a key", one="Port 2200\n", two="User me\n", other="Host x\n")
    assert says in message
    assert " -> " in message


@pytest.mark.parametrize(
    ("text", "data"),
    [
        pytest.param("Match exec true\n  Port 2222\n", {"ssh_port": 2222}, id="port"),
        pytest.param("Match exec true\n  User other\n", {"ssh_user": "me"}, id="user"),
        pytest.param("Host spark-1\n  IdentityFile ~/.ssh/gone\n", {"ssh_key": "k"}, id="key"),
        pytest.param("Host *\n  UserKnownHostsFile none\n", {"ssh_known_hosts_file": "k"},
                     id="known-hosts"),
    ],
)  # fmt: skip
def test_inventory_data_wins_over_the_ssh_config(
    refusal_of: Told, text: str, data: dict[str, object]
) -> None:
    assert refusal_of(text, data) == ""


def test_a_hanging_match_exec_is_not_waited_for(
    refusal_of: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventories, "SSH_SECONDS", 0.5)
    begun = monotonic()
    assert refusal_of('Match exec "sleep 30"\n  User me\n') == ""
    assert monotonic() - begun < 20


def test_a_non_numeric_port_is_reported_with_a_valid_one(refusal_of: Told) -> None:
    assert "port 22" in refusal_of("Host spark-1\n  Port ssh\n")


def test_a_key_that_is_known_by_its_address_needs_no_alias(refusal_of: Told) -> None:
    key = "AAAAC3NzaC1lZDI1NTE5AAAAIJvbyGYlfs1CBqYQe3lTzLq9eWYFUYsFnl9jdNrmYmrM"
    host_key = f"10.0.0.5 ssh-ed25519 {key}\n"
    text = "Host spark-1\n  HostName 10.0.0.5\n  HostKeyAlias first\n"
    assert refusal_of(text, known_hosts=host_key) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("head = ['a'\n", "SyntaxError", id="syntax"),
        pytest.param("head = [name]\n", "NameError", id="name"),
        pytest.param("", "the group `head` has no host", id="empty"),
        pytest.param("import sys\nsys.exit(0)\n", "SystemExit", id="ends-the-program"),
        pytest.param("head = ['me@a']\nworkers = ['b:22']\n", "ssh_port", id="each-name-is-told"),
    ],
)
def test_a_file_that_pyinfra_can_not_use(tmp_path: Path, text: str, says: str) -> None:
    inventory = tmp_path / "spark.py"
    inventory.write_text(text)
    with pytest.raises(Refused, match=says):
        inventories.load_inventory(str(inventory))


@pytest.mark.parametrize("name", ["inventories/sprak.py", "sprak.py", "inventories", " ", "a,,b"])
def test_an_inventory_that_is_not_there(name: str) -> None:
    with pytest.raises(Refused):
        inventories.load_inventory(name)
