"""An API that wants a key: kept from everyone else, through changes of the key and reboots."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from deploying import HEAD, Deploy, lives
from sparks import Cluster

KEY, OTHER = "sk-planted0first", "sk-planted0second"
FILE = "/var/lib/spark-serving/sglang/api_key"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A file of the controller with the key."""
    return written(tmp_path / "api key", KEY)


def written(path: Path, key: str) -> Path:
    path.write_text(f"{key}\n")
    path.chmod(0o600)
    return path


def statuses(cluster: Cluster, key: str = "") -> tuple[int, ...]:
    paths = ("/health", "/v1/models", "/get_server_info")
    return tuple(cluster.http(path, key=key).status for path in paths)


def test_a_key_is_required_from_first_to_last_deploy(deploy: Deploy, key_file: Path) -> None:
    cluster, head, worker = deploy.cluster, deploy.cluster.node(1), deploy.cluster.node(2)
    keyed = {"api_key_file": str(key_file)}
    deploy.succeeds(**keyed)
    assert statuses(cluster) == (200, 401, 401)
    assert statuses(cluster, KEY) == (200, 200, 200)
    assert head.run(f"stat -c '%a %U' {FILE} $(dirname {FILE})").stdout.split("\n")[:2] == [
        "600 root",
        "700 root",
    ]
    assert worker.run(f"test -e {FILE}", check=False).returncode == 1
    deploy.unchanged(**keyed)
    output = deploy.succeeds(program="deploys/verify.py", **keyed)
    assert f"sed 's/^/Authorization: Bearer /' '{key_file}' |" in output
    assert KEY not in output

    before = lives(cluster)
    written(key_file, OTHER)
    assert "api key: changed" in deploy.succeeds(**keyed)
    assert statuses(cluster, KEY) == (200, 401, 401)
    assert statuses(cluster, OTHER) == (200, 200, 200)
    assert all(old[0] == new[0] for old, new in zip(before, lives(cluster), strict=True))

    assert "(none)" in deploy.succeeds()
    assert statuses(cluster) == (200, 200, 200)
    assert head.run("test -e /var/lib/spark-serving", check=False).returncode == 1


def test_a_rank_whose_key_is_gone_stays_closed_until_a_deploy(
    deploy: Deploy, key_file: Path
) -> None:
    cluster, head = deploy.cluster, deploy.cluster.node(1)
    keyed = {"api_key_file": str(key_file)}
    deploy.succeeds(**keyed)
    head.run(f"rm {FILE}; docker restart -t 1 {HEAD}")
    # By then Docker waits for seconds between its attempts: a deploy that reads the node during one
    # takes the rank for one that starts.
    attempts = f"docker inspect --format '{{{{.RestartCount}}}}' {HEAD}"
    until = time.monotonic() + 60
    while int(head.run(attempts).stdout) < 5 and time.monotonic() < until:
        time.sleep(0.2)
    assert "API key: /run/secrets/spark-serving-api/api_key cannot be read" in head.logs(HEAD)
    assert statuses(cluster) == statuses(cluster, KEY) == (0, 0, 0)
    deploy.succeeds(**keyed)
    assert statuses(cluster, KEY) == (200, 200, 200)
    deploy.succeeds(state="absent", **keyed)
    assert head.run("test -e /var/lib/spark-serving", check=False).returncode == 1


@pytest.mark.parametrize(
    ("mode", "key", "words"),
    [
        pytest.param(0o644, KEY, "can be read by others", id="read by others"),
        pytest.param(0o600, "", "is empty", id="empty"),
        pytest.param(0o600, f"{KEY} {OTHER}", "holds more than a key", id="two keys"),
    ],
)
def test_a_file_that_is_no_key(
    served: Deploy, key_file: Path, mode: int, key: str, words: str
) -> None:
    written(key_file, key).chmod(mode)
    output = served.refused(api_key_file=str(key_file))
    assert words in output
    assert KEY not in output
