"""Who is notified of alerts: the receiver's file, and Alertmanager's configuration from it."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

from cluster.findings import Refused, error
from cluster.monitoring.rules import DEAD_MAN

# Where Alertmanager finds its secrets, in its container.
SECRETS = "/etc/alertmanager/secrets"
HOST_AND_PORT = re.compile(r"(?=.{3,260}$)(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
ADDRESS = re.compile(r"[^\s@,<>]{1,64}@[^\s@,<>]{1,255}")
# What is shown where the file is wrong. Nothing that it holds is ever quoted.
FORMS = (
    'write into it either webhook = "https://…" (and token = "…", where the server wants a bearer '
    'token), or smtp = "mail.example.org:587", from = "…", to = "…", user = "…", password = "…"; '
    'and dead_man = "https://…" for a service that notices when nothing comes any more'
)


class Receiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who is notified, as the file states it; either webhook or smtp.

    + webhook: URL that Alertmanager's JSON is sent to; token: sent with it as `Bearer`
    + smtp: "host:port" of a mail server; tls: false sends to it in the clear
    + sender, to: addresses; user, password: for the mail server, "" for none
    + dead_man: URL of a service that notices when nothing comes any more; "": the dead-man notice
      goes the way of the others, once a day
    """

    webhook: str = ""
    token: str = ""
    smtp: str = ""
    tls: bool = True
    sender: str = msgspec.field(name="from", default="")
    to: str = ""
    user: str = ""
    password: str = ""
    dead_man: str = ""

    def __repr__(self) -> str:
        return f"Receiver({'webhook' if self.webhook else 'smtp'})"


def read_receiver(text: str) -> Receiver:
    """The receiver that alert_receiver's file states; Refused with what is wrong with it, without
    anything that it holds. One line that is a URL is a webhook."""
    stripped = text.strip()
    if re.fullmatch(r"https?://\S+", stripped):
        return _checked(Receiver(webhook=stripped))
    try:
        return _checked(msgspec.convert(tomllib.loads(text), type=Receiver))
    except tomllib.TOMLDecodeError:
        problem = "it is neither a URL nor TOML"
    except msgspec.ValidationError:
        names = ", ".join(field.encode_name for field in msgspec.structs.fields(Receiver))
        problem = f"it has another field than {names}, or one of another type"
    raise Refused(error(f"alert_receiver: {problem}", cure=FORMS, key="receiver-invalid"))


def _checked(receiver: Receiver) -> Receiver:
    """The same receiver, if it can be used."""
    if problems := list(_problems(receiver)):
        raise Refused(
            error(f"alert_receiver: {'; '.join(problems)}", cure=FORMS, key="receiver-invalid")
        )
    return receiver


def _problems(receiver: Receiver) -> Iterator[str]:
    for name in ("webhook", "dead_man"):
        url = getattr(receiver, name)
        if url and not _is_url(url):
            yield f"{name} is not a URL (http:// or https://)"
    if bool(receiver.webhook) == bool(receiver.smtp):
        yield "it must have either webhook or smtp"
    if receiver.token and (not receiver.webhook or not _is_word(receiver.token)):
        yield "token goes with webhook, and is one word of printable ASCII"
    if not receiver.smtp:
        return
    if not HOST_AND_PORT.fullmatch(receiver.smtp):
        yield "smtp is not HOST:PORT"
    for name in ("sender", "to"):
        if not all(ADDRESS.fullmatch(each) for each in re.split(r",\s*", getattr(receiver, name))):
            yield f"{'from' if name == 'sender' else name} is not a mail address"
    if bool(receiver.user) != bool(receiver.password):
        yield "user and password go together"


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and _is_word(text)
    except ValueError:
        return False


def _is_word(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def receiver_files(receiver: Receiver | None) -> dict[str, str]:
    """Path in Alertmanager's container → the secret that it reads there: what its configuration
    need not hold. A webhook's URL is one, since most have a key in them."""
    if receiver is None:
        return {}
    secrets = {
        "webhook": receiver.webhook,
        "token": receiver.token,
        "password": receiver.password,
        "dead-man": receiver.dead_man,
    }
    return {f"{SECRETS}/{name}": secret for name, secret in secrets.items() if secret}


def alertmanager_config(receiver: Receiver | None) -> dict[str, Any]:
    """alertmanager.yml as plain data; without a receiver nobody is notified, and only its page and
    its API show the alerts. It holds no secret; a mail server's name and the addresses are in it.

    Alerts of one group and severity come in one notice: at once those of half a minute, what joins
    them after five minutes, and again each hour while the group does not serve, else every four.
    """
    watched = bool(receiver and receiver.dead_man)
    dead_man = {
        "receiver": "dead-man" if watched else "owner",
        "matchers": [f'alertname="{DEAD_MAN}"'],
        "group_by": ["alertname"],
        # Alertmanager repeats a notice when the group's interval is over and this one too.
        "group_interval": "1m",
        "repeat_interval": "5m" if watched else "1d",
    }
    critical = {"matchers": ['severity="critical"'], "repeat_interval": "1h"}
    receivers: list[dict[str, Any]] = [{"name": "owner", **_integration(receiver)}]
    if watched:
        hook = {"url_file": f"{SECRETS}/dead-man", "send_resolved": False}
        receivers.append({"name": "dead-man", "webhook_configs": [hook]})
    return {
        "route": {
            "receiver": "owner",
            "group_by": ["group", "severity"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "4h",
            "routes": [dead_man, critical],
        },
        "inhibit_rules": _inhibitions(),
        "receivers": receivers,
    }


def _integration(receiver: Receiver | None) -> dict[str, Any]:
    """How the owner is notified, also when an alert is over."""
    if receiver is None:
        return {}
    if receiver.webhook:
        hook: dict[str, Any] = {"url_file": f"{SECRETS}/webhook", "send_resolved": True}
        if receiver.token:
            credentials = {"type": "Bearer", "credentials_file": f"{SECRETS}/token"}
            hook["http_config"] = {"authorization": credentials}
        return {"webhook_configs": [hook]}
    mail: dict[str, Any] = {
        "smarthost": receiver.smtp,
        "from": receiver.sender,
        "to": receiver.to,
        "require_tls": receiver.tls,
        "send_resolved": True,
    }
    if receiver.user:
        mail |= {
            "auth_username": receiver.user,
            "auth_password_file": f"{SECRETS}/password",
        }
    return {"email_configs": [mail]}


def _inhibitions() -> list[dict[str, Any]]:
    """Alerts that follow from another one are not sent beside it."""
    node, group = ["group", "node"], ["group"]
    chains = (
        ("node-silent", "rank-silent|gpu-samples-old", node),
        ("node-silent|rank-silent", "tokens-still|queue-growing", group),
        ("memory-low", "memory-falling|swapping", node),
    )
    return [
        {
            "source_matchers": [f'alertname=~"{cause}"'],
            "target_matchers": [f'alertname=~"{effect}"'],
            "equal": equal,
        }
        for cause, effect, equal in chains
    ]
