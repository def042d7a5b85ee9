"""What the nodes of a tunnel answer, and what is reported if it does not work."""

from __future__ import annotations

import pytest

from cluster.transfer import tunnel

HOST_KEY = "key ssh-ed25519 AAAA"
KEY = tunnel.Key("/dev/shm/k", "169.254.2.1", "ssh-ed25519 AAAA")


def test_the_sources_login_and_keys_are_parsed() -> None:
    lines = ["user nvidia", "port 2222", "key ssh-ed25519 AAAA", "key ssh-rsa BBBB"]
    source = tunnel.parse_source(lines)
    assert source == tunnel.Source("nvidia", 2222, ("ssh-ed25519 AAAA", "ssh-rsa BBBB"))
    key = tunnel.Key("/dev/shm/k", "169.254.2.2", "ssh-ed25519 CCCC")
    assert tunnel.try_tunnel(key, source, ("ssh",)).stdin == (
        "spark-serving-source ssh-ed25519 AAAA\nspark-serving-source ssh-rsa BBBB\n"
    )


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="nothing"),
        pytest.param(["user nvidia"], id="no host key"),
        pytest.param(["user a -oProxyCommand=id;#", HOST_KEY], id="options for a login"),
        pytest.param(["user -oProxyCommand=id", HOST_KEY], id="an option for a login"),
        pytest.param(["user a@b", HOST_KEY], id="a login with a host"),
        pytest.param(["user $(id)", HOST_KEY], id="a command for a login"),
        pytest.param(["user a", "port 22 -v", HOST_KEY], id="options for a port"),
        pytest.param(["user a", "port x", HOST_KEY], id="a port that is none"),
        pytest.param(["user a", 'key ssh-ed25519 AAAA\x1b" *'], id="a key that is none"),
    ],
)
def test_no_answer_of_the_source(lines: list[str]) -> None:
    assert tunnel.parse_source(lines) is None


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        pytest.param(["/dev/shm/k", "169.254.2.1", "ssh-ed25519 AAAA spark"], KEY, id="key"),
        pytest.param(["/dev/shm/k", "", "ssh-ed25519 AAAA"], None, id="no address"),
        pytest.param([], None, id="nothing"),
        *(
            pytest.param(["/dev/shm/k", address, "ssh-ed25519 AAAA"], None, id=name)
            for address, name in (
                ('127.0.0.1",port-forwarding,permitopen="*:*', "an address with options"),
                ("*", "any address"),
                ("169.254.2.1,*", "two addresses"),
                ("169.254.0.0/16", "a network"),
                ("spark-2", "a name"),
                ('fe80::1%",x="', "a scope with options"),
            )
        ),
        *(
            pytest.param(["/dev/shm/k", "169.254.2.1", public], None, id=name)
            for public, name in (
                ("ssh-ed25519", "no key"),
                ("ssh-rsa AAAA", "a key of another kind"),
                ('command="id" ssh-ed25519 AAAA', "options before the key"),
                ("ssh-ed25519 AA\x00AA", "a key that is none"),
            )
        ),
        *(
            pytest.param([folder, "169.254.2.1", "ssh-ed25519 AAAA"], None, id=name)
            for folder, name in (
                ("-rf", "an option for a folder"),
                ("/dev/shm/../../home", "a folder that leaves"),
                ("/dev/shm/a b", "a folder with a blank"),
                ("", "no folder"),
            )
        ),
    ],
)
def test_the_targets_key_is_parsed(lines: list[str], key: tunnel.Key | None) -> None:
    assert tunnel.parse_key(lines) == key


def test_a_source_whose_shell_prints_is_named_with_its_cure() -> None:
    finding = tunnel.noisy_login("spark-1", "Welcome to NVIDIA DGX Spark\n")
    assert str(finding).startswith("spark-1: its shell prints text before the files")
    assert "Welcome to NVIDIA DGX Spark" in finding.what
    assert "~/.bashrc" in finding.cure


def test_nothing_is_trusted_on_first_use() -> None:
    words = tunnel.ssh_argv(KEY, 22)
    assert "StrictHostKeyChecking=yes" in words
    assert "UserKnownHostsFile=/dev/shm/k/known_hosts" in words


@pytest.mark.parametrize(
    ("message", "words"),
    [
        pytest.param(
            "ssh: connect to host 169.254.1.1 port 22: Connection refused",
            "spark-2: sshd on spark-1 does not answer at its fabric address 169.254.1.1 port 22",
            id="refused",
        ),
        pytest.param(
            "Host key verification failed.",
            "what answers on 169.254.1.1 port 22 is not spark-1",
            id="another machine",
        ),
        pytest.param(
            "nvidia@169.254.1.1: Permission denied (publickey).",
            "sshd on spark-1 rejects the key in ~/.ssh/authorized_keys",
            id="denied",
        ),
        pytest.param("", "there was no output", id="nothing said"),
    ],
)
def test_a_closed_tunnel_says_why(message: str, words: str) -> None:
    finding = tunnel.tunnel_closed("spark-2", "spark-1", "169.254.1.1", 22, message)
    assert words in str(finding)
    assert finding.cure
