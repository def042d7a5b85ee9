"""Containers of monitoring as data: labels, drift, the commands that they lead to."""

from __future__ import annotations

import base64
import io
import tarfile
from dataclasses import replace

import pytest

from cluster.monitoring import parts
from cluster.node.readings import ImageReading, Rank

CONTENTS = {"/etc/prometheus/a.json": "{}\n", "/etc/b": "ü"}
PART = parts.PartSpec(
    group="sglang",
    kind="prometheus",
    name="sglang-prometheus",
    image="prom/prometheus:v3",
    at="127.0.0.1:9090",
    args=("--config.file=/etc/a", "--web.listen-address=127.0.0.1:9090"),
    memory="512m",
    volumes=("sglang-prometheus:/prometheus",),
    files=parts.digests(CONTENTS),
)
WANTED = parts.WantedPart(part=PART, contents=CONTENTS, url="http://127.0.0.1:9090/-/ready")
ID = "sha256:" + "ab" * 32


def container(part: parts.PartSpec = PART, **changed: object) -> Rank:
    running = Rank(part.name, "c0ffee", "running", image_id=ID, label=part.dump())
    return replace(running, **changed)  # type: ignore[arg-type]


def there(*containers: Rank, image: str = ID) -> parts.MonitoringReading:
    return parts.MonitoringReading(
        containers=containers, images={PART.image: ImageReading(PART.image, image)}
    )


def test_a_label_is_read_as_it_was_written() -> None:
    assert parts.read_part(PART.dump()) == PART


@pytest.mark.parametrize(
    "label", [None, "", "{}", "[]", "null", '{"group": 3}', "[" * 5000, '{"group":"x","kind":"y"}']
)
def test_no_label_of_others_is_an_error(label: str | None) -> None:
    assert parts.read_part(label) is None
    assert parts.part_drift(label or "", PART)


def test_what_runs_as_declared_needs_no_step() -> None:
    step = parts.plan_part(WANTED, there(container()))
    assert step.reasons == ()


@pytest.mark.parametrize(
    ("old", "words"),
    [
        ({"memory": "100m"}, "memory: '100m' -> '512m'"),
        ({"image": "prom/prometheus:v2"}, "image: 'prom/prometheus:v2' -> 'prom/prometheus:v3'"),
        (
            {"args": ("--config.file=/etc/a", "--web.listen-address=0.0.0.0:9090")},
            "--web.listen-address: '0.0.0.0:9090' -> '127.0.0.1:9090'",
        ),
        ({"args": PART.args[:1]}, "--web.listen-address: (none) -> '127.0.0.1:9090'"),
        ({"volumes": ()}, "volume /prometheus: (none) -> 'sglang-prometheus:/prometheus'"),
        ({"host_pids": True}, "host_pids: True -> False"),
        ({"files": {}}, "file /etc/b: (none) -> "),
    ],
)
def test_drift_is_named_field_by_field(old: dict[str, object], words: str) -> None:
    was = replace(PART, **old)  # type: ignore[arg-type]
    step = parts.plan_part(WANTED, there(container(label=was.dump())))
    assert step.recreate
    assert words in str(step), str(step)


@pytest.mark.parametrize(
    ("changed", "recreate", "words"),
    [
        ({"status": "exited", "exit_code": 2}, False, "start sglang-prometheus: is exited, exit"),
        ({"status": "exited", "oom_killed": True}, False, "is exited, killed for memory"),
        ({"status": "created"}, True, "create sglang-prometheus: was never started"),
        ({"image_id": "sha256:" + "cd" * 32}, True, "image id: cdcdcdcdcdcd -> abababababab"),
    ],
)
def test_a_container_that_does_not_run_as_it_should(
    changed: dict[str, object], recreate: bool, words: str
) -> None:
    step = parts.plan_part(WANTED, there(container(**changed)))
    assert step.recreate == recreate
    assert words in str(step)


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


def held(*letters: str, id: str = ID, name: str = "prom/prometheus") -> parts.MonitoringReading:
    """A node that has the image with these digests, and Prometheus as its label says."""
    image = ImageReading(PART.image, id, tuple(f"{name}@{digest(each)}" for each in letters))
    return replace(there(), images={PART.image: image})


@pytest.mark.parametrize(
    ("labelled", "image", "drift", "label"),
    [
        pytest.param("a", held("a"), "", "a", id="the same"),
        pytest.param("a", held("b", "a"), "", "a", id="still one of the image's"),
        pytest.param("a", held("b", id="x"), f"digest: {'a' * 12} -> {'b' * 12}", "b", id="moved"),
        pytest.param("", held("b"), "", "b", id="a label from before"),
        pytest.param("", held("b", id="x"), "image id: abababababab -> x", "b", id="before, moved"),
        pytest.param("a", held(), "", "", id="a copy of it"),
        pytest.param("a", held(id="x"), "image id: abababababab -> x", "", id="a copy of another"),
        pytest.param("a", held("b", name="me/own"), "", "", id="another repository's"),
    ],
)
def test_the_digest_of_a_tag_is_in_the_label_and_a_moved_one_is_drift(
    labelled: str, image: parts.MonitoringReading, drift: str, label: str
) -> None:
    old = container(replace(PART, digest=digest(labelled) if labelled else ""))
    step = parts.plan_part(WANTED, replace(image, containers=(old,)))
    assert "; ".join(step.reasons) == drift
    assert step.wanted and step.wanted.part.digest == (digest(label) if label else "")
    assert ('"digest"' in step.wanted.part.dump()) == bool(label)


def test_a_reference_by_digest_has_none_beside_it() -> None:
    pinned = replace(PART, image=f"prom/prometheus@{digest('c')}")
    image = ImageReading(pinned.image, ID, (pinned.image,))
    step = parts.plan_part(
        replace(WANTED, part=pinned), parts.MonitoringReading(images={pinned.image: image})
    )
    assert step.wanted and step.wanted.part == pinned


def test_a_part_is_bounded_and_gets_no_more_than_it_needs() -> None:
    words = parts.create_part(PART).argv
    assert words[-3:] == (PART.image, *PART.args)
    line = " ".join(words)
    for bound in (
        *("--memory 512m --memory-swap 512m", "--cap-drop ALL", "--restart unless-stopped"),
        *("--security-opt no-new-privileges", "--log-driver local", "max-size=5m", "max-file=2"),
        "--pull never",
    ):
        assert bound in line
    assert "--privileged" not in line
    assert "--pid" not in words
    assert "--pid" in parts.create_part(replace(PART, host_pids=True)).argv


def test_its_files_come_by_stdin_as_they_are_and_secrets_for_its_user_alone() -> None:
    secret = {"/etc/s": "hush"}
    command = parts.copy_files(replace(WANTED, secrets=secret))
    assert "etc/b" not in " ".join(command.argv)
    packed = base64.b64decode(command.stdin)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = {m.name: archive.extractfile(m) for m in archive}
        modes = {m.name: (m.mode, m.uid) for m in archive}
    texts = {f"/{name}": file.read().decode() for name, file in members.items() if file}
    assert texts == CONTENTS | secret
    assert modes["etc/s"] == (0o400, 65534) and modes["etc/b"] == (0o644, 0)


def test_only_a_volume_of_docker_s_own_is_its_data() -> None:
    assert PART.data == "sglang-prometheus"
    assert replace(PART, volumes=("/:/host:ro,rslave",)).data == ""
    assert "spark-serving.monitoring=sglang" in parts.create_data(PART).argv
