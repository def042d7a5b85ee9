"""What a node lacks, whether it fits, how a transfer progresses, and what a failure means."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cluster.transfer import weights
from cluster.transfer.hub_errors import explain_failure, find_unencrypted_token
from cluster.transfer.repository import File
from cluster.transfer.stored import (
    StoredModel,
    TransferProgress,
    find_missing_space,
    format_seconds,
    manifest_entries,
    missing_files,
    parse_stored_model,
)

GB = 10**9
ONE = File("a", 10 * GB, "sha256", "1" * 64, mtime_ns=5)
TWO = File("b", 5 * GB, "sha256", "2" * 64, mtime_ns=5)
WANTED = {"a": ONE, "b": TWO}


def listing(**changed: object) -> dict[str, object]:
    entry = {"size": 3, "kind": "git", "hash": "1" * 40, "by": "hub", "blob": "1" * 40,
            "mtime_ns": 1, "good": True, "read": 3}  # fmt: skip
    plain = {
        "commit": "c" * 40, "at": "/x", "files": {"config.json": entry, "m.safetensors": {**entry}},
        "absent": {}, "recorded": False, "shards": {}, "closed": [], "partial": False, "free": 9,
        "begun": 0, "uid": 1, "gid": 2,
    }  # fmt: skip
    return {**plain, **changed}


def test_a_listing_of_good_files_is_complete() -> None:
    reading = parse_stored_model(listing(recorded=True))
    assert (reading.complete, reading.read, reading.owner) == (True, 6, (1, 2))


@pytest.mark.parametrize(
    ("changed", "complete"),
    [
        pytest.param({}, True, id="nobody's list, but weights and config"),
        pytest.param({"partial": True}, False, id="a download is half done"),
        pytest.param({"files": {}}, False, id="nothing"),
        pytest.param({"shards": {"model.safetensors.index.json": ["n"]}}, False, id="shard lacks"),
        pytest.param({"recorded": True, "partial": True}, True, id="of another revision"),
        pytest.param({"placeholders": ["m.safetensors"]}, False, id="Git LFS pointers"),
        pytest.param({"placeholders": ["m"], "recorded": True}, False, id="recorded pointers"),
    ],
)
def test_a_listing_is_complete_or_not(changed: dict[str, object], complete: bool) -> None:
    assert parse_stored_model(listing(**changed)).complete is complete


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"files": {"../x": {}}}, id="a name that leaves"),
        pytest.param({"files": {"x": {"good": True}}}, id="nothing of a file"),
        pytest.param({"files": []}, id="a list"),
        pytest.param({"absent": {"/etc/passwd": {}}}, id="a path from the root"),
        pytest.param({"commit": "/home/nvidia"}, id="a commit that is a path"),
        pytest.param({"free": "much"}, id="words for a number"),
        pytest.param({"shards": {"model.safetensors.index.json": [7]}}, id="shards that are none"),
        pytest.param({"uid": None}, id="nothing"),
    ],
)
def test_an_impossible_node_listing_is_a_value_error(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        parse_stored_model(listing(**changed))
    with pytest.raises(ValueError):
        parse_stored_model({name: value for name, value in listing().items() if name != "files"})


def test_a_damaged_or_missing_file_of_the_list_makes_it_incomplete() -> None:
    good = StoredModel(good=WANTED, listed=True)
    assert good.complete
    assert not replace(good, bad={"c": ONE}).complete
    assert not replace(good, absent={"c": ONE}).complete


@pytest.mark.parametrize(
    ("there", "names"),
    [
        pytest.param({}, "ab", id="nothing there"),
        pytest.param(WANTED, "", id="all there"),
        pytest.param({"a": ONE, "b": replace(TWO, hash="3" * 64)}, "b", id="another content"),
        pytest.param({"a": replace(ONE, mtime_ns=9, by="itself"), "b": TWO}, "", id="times differ"),
    ],
)
def test_the_files_a_node_lacks(there: dict[str, File], names: str) -> None:
    assert "".join(f.path for f in missing_files(WANTED, StoredModel(good=there))) == names


def test_room_with_the_arithmetic() -> None:
    files = tuple(WANTED.values())
    finding = find_missing_space("spark-2", [(StoredModel(at="/raid/x", free=16 * GB), files)])
    assert finding is not None
    assert str(finding).startswith(
        "spark-2: the weights do not fit: 15.0 GB to download + 2 GB margin = 17.0 GB needed, "
        "16.0 GB free on the disk of /raid/x -> "
    )
    for there, wanted in (
        (StoredModel(free=17 * GB), files),
        (StoredModel(free=12 * GB, begun=5 * GB), files),
        (StoredModel(free=0), ()),
    ):
        assert find_missing_space("spark-2", [(there, wanted)]) is None


def test_a_model_and_its_draft_share_the_room() -> None:
    disk = StoredModel(at="/raid/x", free=18 * GB)
    model, draft = tuple(WANTED.values()), (replace(ONE, size=3 * GB),)
    assert find_missing_space("spark-2", [(disk, model)]) is None
    finding = find_missing_space("spark-2", [(disk, model), (disk, draft)])
    assert "15.0 GB + 3.0 GB to download + 2 GB margin = 20.0 GB needed" in str(finding)
    assert find_missing_space("spark-2", [(disk, ()), (disk, draft)]) is None
    # What an interrupted download of one has left is no room for the other.
    begun = replace(disk, begun=30 * GB)
    assert find_missing_space("spark-2", [(begun, model), (disk, draft)]) is None
    assert find_missing_space("spark-2", [(begun, draft), (disk, (*model, *draft))]) is not None


def test_progress_with_rate_and_time_left() -> None:
    progress = TransferProgress(65 * GB, begun=100.0)
    assert progress.line(100.0) == "0.0 of 65.0 GB"
    progress.note(5 * GB, 101.0)
    progress.note(25 * GB, 120.0)
    assert progress.line(120.0) == "25.0 of 65.0 GB, 1.00 GB/s, 40 s left"
    progress.note(24 * GB, 150.0)
    assert progress.silent(150.0) == 30.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (100, "2 min"), (3600 * 3 + 300, "3 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("kind", "status", "what"),
    [
        pytest.param("gated", 401, "the hub got no valid token", id="gated-401"),
        pytest.param("gated", 403, "the token may not read it", id="gated-403"),
        pytest.param("denied", 403, "this token may not read", id="denied"),
        pytest.param("denied", 401, "requires a valid token", id="denied-401"),
        pytest.param("limited", 429, "is rate-limiting the node's address", id="limited"),
        pytest.param("server", 503, "failed with a server error", id="server"),
        pytest.param("other", 404, "has no such endpoint", id="no hub's API"),
        pytest.param("repository", 404, "has no repository org/m", id="repository"),
        pytest.param("revision", 404, "has no revision 'v1'", id="revision"),
        pytest.param("network", 0, "could not be reached", id="network"),
        pytest.param("wrong", 0, "arrived corrupt twice", id="wrong"),
        pytest.param("still", 0, "stalled: no data", id="still"),
        pytest.param("full", 0, "the disk filled up", id="full"),
        pytest.param("longer", 0, "sends a larger file", id="longer"),
        pytest.param("unfit", 0, "impossible files for", id="unfit"),
        pytest.param("clear", 0, "unencrypted, and was not sent", id="clear"),
        pytest.param("other", 0, "failed", id="unknown"),
    ],
)
def test_each_failure_has_its_cause_and_cure(kind: str, status: int, what: str) -> None:
    finding = explain_failure(kind, "Said: so", "spark-1", "org/m", "v1", "", status)
    assert what in finding.what
    assert finding.what.endswith("(Said: so)")
    assert finding.where == "spark-1"
    assert finding.cure


@pytest.mark.parametrize(
    ("kind", "message", "what", "cure"),
    [
        pytest.param(
            "network",
            "SSLError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded "
            "(Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]')))",
            "does not trust the certificate",
            "timedatectl",
            id="certificate",
        ),
        pytest.param(
            "network",
            "ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed",
            "does not trust the certificate",
            "CA",
            id="certificate-httpx",
        ),
        pytest.param(
            "network",
            "ProxyError: HTTPSConnectionPool(host='huggingface.co', port=443): Tunnel connection "
            "failed: 407 Proxy Authentication Required",
            "the proxy",
            "HTTPS_PROXY",
            id="proxy",
        ),
        pytest.param(
            "network",
            "ConnectError: [Errno -3] Temporary failure in name resolution",
            "cannot resolve the name",
            "resolvectl",
            id="name",
        ),
        pytest.param(
            "still",
            "ConnectionError: Failed to resolve 'huggingface.co' ([Errno -2] Name or service not "
            "known)",
            "cannot resolve the name",
            "resolvectl",
            id="name-until-the-end",
        ),
        pytest.param(
            "file",
            "LocalEntryNotFoundError: Cannot find the requested files in the disk cache and "
            "outgoing traffic has been disabled.",
            "ran offline",
            "HF_HUB_OFFLINE",
            id="offline",
        ),
        pytest.param(
            "other",
            "OfflineModeIsEnabled: Cannot reach https://huggingface.co/x: offline mode is enabled.",
            "ran offline",
            "HF_HUB_OFFLINE",
            id="offline-mode",
        ),
        pytest.param(
            "other",
            "OSError: [Errno 5] Input/output error: '/hub/x'",
            "the disk under hf_cache is failing",
            "smartctl",
            id="disk",
        ),
        pytest.param(
            "other",
            "PermissionError: [Errno 13] Permission denied: '/hub/models--x'",
            "hf_cache cannot be written",
            "no_root_squash",
            id="rights",
        ),
        pytest.param(
            "network",
            "ChunkedEncodingError: ('Connection broken: IncompleteRead(1 bytes read)', x)",
            "was cut off",
            "run this again",
            id="cut",
        ),
        pytest.param(
            "network",
            "ConnectTimeout: timed out",
            "could not be reached",
            "curl -sI",
            id="no-answer",
        ),
    ],
)
def test_a_failures_message_says_more_than_its_kind(
    kind: str, message: str, what: str, cure: str
) -> None:
    finding = explain_failure(kind, message, "spark-1", "org/m", "v1", "")
    assert what in finding.what
    assert cure in finding.cure


@pytest.mark.parametrize(
    ("kind", "status"), [("gated", 401), ("repository", 404), ("revision", 404), ("network", 0)]
)
def test_trouble_with_a_draft_has_a_cure_of_its_own(kind: str, status: int) -> None:
    finding = explain_failure(kind, "", "spark-1", "org/d", "c" * 40, "", status, draft=True)
    assert "--data model=" not in finding.cure and "--data revision=" not in finding.cure
    assert finding.cure.endswith("; or serve without the draft model: --data draft=none")


def test_the_download_runs_detached_and_holds_no_secret() -> None:
    command = weights.start_download(
        *("g", "org/m", "/raid/hf", "sgl:1", "SCRIPT", "hf_sesame\n"), fetch=True, token=True
    )
    text = " ".join(command.argv)
    assert "hf_sesame" not in text and command.stdin == "hf_sesame\n"
    assert "docker run --detach --name spark-serving-weights-g" in text
    assert "--label spark-serving.task=weights g org/m --network host" in text
    assert "--volume /raid/hf/hub:/hub" in text
    assert "--volume /run/spark-serving/download:/run/secrets/spark-serving" in text
    assert command.argv[-3:] == ("sgl:1", "-c", "SCRIPT")


def test_the_clients_task_follows_the_token_on_stdin() -> None:
    request = {"do": "fetch", "files": [["a" * 100, 1, "git", "1" * 40]] * 2000}
    token, *pieces = weights.download_task("org/m", "https://hub", "hf_1", request).splitlines()
    assert token == "hf_1"
    task = json.loads("".join(pieces))
    assert task["folder"] == "/hub/models--org--m"
    assert (task["repo"], task["endpoint"], task["files"]) == (
        "org/m", "https://hub", request["files"],
    )  # fmt: skip
    assert max(map(len, pieces)) < 1 << 17, "what Linux takes for one argument"


def test_a_list_mounts_no_cache_and_without_a_token_nothing_is_mounted() -> None:
    command = weights.start_download(
        "g", "org/m", "/raid", "sgl:1", "S", "", fetch=False, token=False
    )
    assert "--volume" not in command.argv[command.argv.index("--detach") :]


@pytest.mark.parametrize(
    ("endpoint", "token", "refused"),
    [
        pytest.param("http://hub.lan", "hf_1", True, id="http"),
        pytest.param("http://127.0.0.1:8080", "hf_1", True, id="loopback"),
        pytest.param("HTTP://hub.lan", "hf_1", True, id="capitals"),
        pytest.param("https://hub.lan", "hf_1", False, id="https"),
        pytest.param("", "hf_1", False, id="the hub itself"),
        pytest.param("http://hub.lan", "", False, id="no token"),
    ],
)
def test_a_token_over_plain_http_is_refused(endpoint: str, token: str, refused: bool) -> None:
    finding = find_unencrypted_token(endpoint, token, "spark-1", "org/m")
    assert bool(finding) is refused
    assert not finding or "hf_endpoint = https://" in finding.cure


def test_streams_share_the_bytes() -> None:
    sizes = {"a": 10, "b": 9, "c": 5, "d": 4, "e": 1}
    shares = weights.share_out(sizes, 3)
    assert sorted(name for share in shares for name in share) == sorted(sizes)
    assert max(sum(sizes[n] for n in share) for share in shares) == 10
    assert weights.share_out({"a": 1}, 4) == [["a"]]


def test_the_manifest_keeps_what_a_file_must_be() -> None:
    assert manifest_entries([ONE]) == {
        "a": {"size": 10 * GB, "kind": "sha256", "hash": "1" * 64, "by": "hub", "blob": "",
              "mtime_ns": 5}
    }  # fmt: skip
