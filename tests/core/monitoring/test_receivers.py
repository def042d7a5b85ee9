"""alert_receiver's file: what it may hold, and Alertmanager's configuration from it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from cluster.findings import Refused
from cluster.monitoring.alertmanager import (
    Receiver,
    alertmanager_config,
    read_receiver,
    receiver_files,
)
from cluster.monitoring.rules import DEAD_MAN, alerts

URL = "https://hooks.example.org/T0/secret-1?key=2"
MAIL = """
smtp = "mail.example.org:587"
from = "spark@example.org"
to = "owner@example.org, second@example.org"
user = "spark"
password = "secret-3"
"""
FORMS = {
    "url": f"{URL}\n",
    "webhook": f'webhook = "{URL}"\ntoken = "secret-4"\n',
    "mail": MAIL,
    "dead-man": f'{MAIL}dead_man = "https://hc.example.org/secret-5"\n',
}


@pytest.mark.parametrize("text", [pytest.param(t, id=name) for name, t in FORMS.items()])
def test_no_secret_is_in_the_configuration_or_in_what_is_shown(text: str) -> None:
    receiver = read_receiver(text)
    files = receiver_files(receiver)
    written = json.dumps(alertmanager_config(receiver))
    assert files
    for path, secret in files.items():
        assert secret not in written and secret not in repr(receiver)
        assert path in written
    assert "secret" not in written.replace("/etc/alertmanager/secrets/", "")


def test_without_a_receiver_nobody_is_notified_and_no_file_is_written() -> None:
    config = alertmanager_config(None)
    assert config["receivers"] == [{"name": "owner"}]
    assert receiver_files(None) == {}


@pytest.mark.parametrize("text", [pytest.param(t, id=name) for name, t in FORMS.items()])
def test_each_receiver_gets_resolved_notices_and_the_dead_mans(text: str) -> None:
    config = alertmanager_config(read_receiver(text))
    owner, *others = config["receivers"]
    ((ways,),) = [[way for name, way in owner.items() if name != "name"]]
    assert [way["send_resolved"] for way in ways] == [True]
    dead_man = config["route"]["routes"][0]
    assert dead_man["matchers"] == [f'alertname="{DEAD_MAN}"']
    assert dead_man["receiver"] == (others[0]["name"] if others else "owner")
    assert dead_man["repeat_interval"] == ("5m" if others else "1d")


def test_inhibitions_name_alerts_that_exist() -> None:
    keys = {alert.key for alert in alerts()}
    for rule in alertmanager_config(None)["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            assert set(matcher.split('"')[1].split("|")) <= keys


WRONG = {
    "nothing": ("", "either webhook or smtp"),
    "neither": ("hunter2 hunter2", "neither a URL nor TOML"),
    "two-urls": (f"{URL}\n{URL}", "neither a URL nor TOML"),
    "both": (f'{MAIL}webhook = "https://hunter2"', "either webhook or smtp"),
    "unknown": ('hunter2 = "x"', "another field than webhook, token, smtp"),
    "type": ("webhook = 1", "one of another type"),
    "scheme": ('webhook = "file:///hunter2"', "webhook is not a URL"),
    "no-host": ('webhook = "https:///hunter2"', "webhook is not a URL"),
    "blank": ('webhook = "https://a/hunter2 b"', "webhook is not a URL"),
    "bracket": ('webhook = "https://[hunter2"', "webhook is not a URL"),
    "dead-man": (f'{MAIL}dead_man = "hunter2"', "dead_man is not a URL"),
    "token": ('webhook = "https://a"\ntoken = "hunter2\\n"', "token goes with webhook"),
    "token-of-mail": (f'{MAIL}token = "hunter2"', "token goes with webhook"),
    "port": ('smtp = "hunter2"\nfrom = "a@b"\nto = "c@d"', "smtp is not HOST:PORT"),
    "from": ('smtp = "a:25"\nto = "c@d"', "from is not a mail address"),
    "to": ('smtp = "a:25"\nfrom = "a@b"\nto = "hunter2"', "to is not a mail address"),
    "header": ('smtp = "a:25"\nfrom = "a@b"\nto = "a@b\\nBcc: x@y"', "to is not a mail address"),
    "password": ('smtp = "a:25"\nfrom = "a@b"\nto = "c@d"\nuser = "hunter2"', "go together"),
}


@pytest.mark.parametrize(("text", "why"), [pytest.param(*w, id=n) for n, w in WRONG.items()])
def test_a_wrong_file_is_refused_without_what_it_holds(text: str, why: str) -> None:
    with pytest.raises(Refused) as refusal:
        read_receiver(text)
    (finding,) = refusal.value.findings
    assert why in finding.what and "webhook" in finding.cure
    assert "hunter2" not in str(finding)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(read_receiver(text), Receiver)
    except Refused as refusal:
        assert "alert_receiver: " in str(refusal)
