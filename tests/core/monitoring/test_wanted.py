"""What monitoring should be on each node, what Prometheus scrapes, and the steps to it."""

from __future__ import annotations

import configparser
import json
import re
from dataclasses import replace

import pytest
from samples import fabric_of, sparks, want

from cluster.findings import Refused
from cluster.monitoring import metrics_timer, parts, wanted
from cluster.monitoring.alertmanager import read_receiver
from cluster.monitoring.boards import SOURCE, boards
from cluster.monitoring.rules import rule_groups
from cluster.node.readings import ImageReading, Rank
from cluster.settings.schema import Settings

ID = "sha256:" + "ab" * 32
NOBODY = wanted.Private()


def desired(
    nodes: int = 2, address: str = "127.0.0.1", **data: object
) -> dict[str, wanted.NodeWanted]:
    declaration = want(nodes, **data)
    fabric = wanted.fabric_addresses(declaration, fabric_of(declaration, sparks(nodes)))
    return wanted.wanted_parts(declaration, fabric, address, NOBODY)


def config(**data: object) -> dict[str, list[tuple[str, str, str]]]:
    """Job → its targets: (address, node, rank)."""
    content = desired(**data)["spark-1"].parts[-1].contents[wanted.CONFIG_FILE]  # type: ignore[arg-type]
    return {
        job["job_name"]: [
            (at, s["labels"]["node"], s["labels"].get("rank", ""))
            for s in job["static_configs"]
            for at in s["targets"]
        ]
        for job in json.loads(content)["scrape_configs"]
    }


def test_the_head_reaches_itself_by_loopback_and_others_over_the_fabric() -> None:
    assert config() == {
        "sglang": [
            ("127.0.0.1:30000", "spark-1", "0"),
            ("192.168.100.11:30000", "spark-2", "1"),
        ],
        "node": [("127.0.0.1:9100", "spark-1", ""), ("192.168.100.11:9100", "spark-2", "")],
        "prometheus": [("127.0.0.1:9090", "spark-1", "")],
        "alertmanager": [("127.0.0.1:9093", "spark-1", "")],
    }


def test_ports_and_switches_of_the_settings_count() -> None:
    jobs = config(port=31000, prometheus_port=9991, node_exporter_port=9992, address="10.0.0.5")
    assert jobs["sglang"][1] == ("192.168.100.11:31000", "spark-2", "1")
    assert jobs["node"][0] == ("127.0.0.1:9992", "spark-1", "")
    assert jobs["prometheus"] == [("10.0.0.5:9991", "spark-1", "")]
    assert "sglang" not in config(enable_metrics=False)
    assert config(nodes=1)["node"] == [("127.0.0.1:9100", "spark-1", "")]


def test_head_only_leaves_nothing_on_the_others() -> None:
    declaration = want(2, head_only=True)
    assert list(
        wanted.wanted_parts(
            declaration,
            wanted.fabric_addresses(declaration, fabric_of(declaration, sparks())),
            "127.0.0.1",
            NOBODY,
        )
    ) == ["spark-1"]


@pytest.mark.parametrize("nodes", [1, 2, 3, 4])
def test_nothing_listens_on_every_address_by_default(nodes: int) -> None:
    for node in desired(nodes).values():
        for each in node.parts:
            assert "0.0.0.0" not in each.part.dump()
            assert re.fullmatch(r"http://(127\.0\.0\.1|192\.168\.100\.\d+):\d+/\S+", each.url)


def test_disk_time_and_memory_are_bounded() -> None:
    head = desired(monitoring_disk=3, monitoring_retention="2d")["spark-1"]
    exporter, alertmanager, prometheus = (w.part for w in head.parts)
    assert "--storage.tsdb.retention.size=3GB" in prometheus.args
    assert "--storage.tsdb.retention.time=2d" in prometheus.args
    assert [p.memory for p in (prometheus, exporter, alertmanager)] == ["512m", "100m", "100m"]
    # no cluster of Alertmanagers, which would listen on every address
    assert "--cluster.listen-address=" in alertmanager.args
    assert exporter.volumes == ("/:/host:ro,rslave",)


def test_the_timer_reads_what_there_is_and_a_node_without_any_of_it_has_none() -> None:
    both, rank, gpus, none = (
        desired(**data)["spark-2"]  # type: ignore[arg-type]
        for data in (
            {"ready_timeout": 700},
            {"gpus": "none"},
            {"restart_policy": "no"},
            {"gpus": "none", "restart_policy": "no"},
        )
    )
    assert none.timer is None and "textfile" not in none.parts[0].part.dump()
    started = []
    for node in (both, rank, gpus):
        assert node.timer and "textfile" in node.parts[0].part.dump()
        files = metrics_timer.unit_files(node.timer)
        assert set(files) <= set(metrics_timer.unit_paths("sglang"))
        service = files["/etc/systemd/system/spark-monitoring-sglang.service"]
        started.append(re.findall("ExecStart=(.*)", service))
        assert all(f"{path} " in service for path in files if path.endswith(".sh"))
    scripts, folder = "/usr/local/lib/spark-monitoring", "/run/spark-monitoring/sglang"
    worker = f"-/bin/sh {scripts}/rank@sglang.sh {folder} sglang-worker-1"
    gpu = f"/bin/sh {scripts}/sglang.sh {folder}"
    assert started == [[f"{worker} 700 700", gpu], [f"{worker} 600 1500"], [gpu]]


def test_prometheus_has_the_rules_and_sends_to_alertmanager() -> None:
    prometheus = desired()["spark-1"].parts[-1]
    config = json.loads(prometheus.contents[wanted.CONFIG_FILE])
    assert config["rule_files"] == [wanted.RULES_FILE]
    assert json.loads(prometheus.contents[wanted.RULES_FILE]) == rule_groups()
    (sent,) = config["alerting"]["alertmanagers"]
    assert sent["static_configs"] == [{"targets": ["127.0.0.1:9093"]}]
    assert config["global"]["external_labels"] == {"group": "sglang"}


def test_on_every_address_the_head_reaches_them_by_loopback() -> None:
    parts_there = desired(address="0.0.0.0")["spark-1"].parts[1:]
    assert [w.url for w in parts_there] == [
        "http://127.0.0.1:9093/-/ready",
        "http://127.0.0.1:9090/-/ready",
    ]
    assert "0.0.0.0" not in "".join(parts_there[1].contents.values())
    assert "--web.listen-address=0.0.0.0:9090" in parts_there[1].part.args


MANAGEMENT = {"spark-1": "10.0.0.5", "spark-2": "10.0.0.6"}


def test_a_host_that_only_monitors_has_no_exporter_and_scrapes_management_addresses() -> None:
    declaration = want(2)
    there = wanted.wanted_parts(declaration, MANAGEMENT, "127.0.0.1", NOBODY, "watcher")
    kinds = {node: [w.part.kind for w in each.parts] for node, each in there.items()}
    assert kinds == {
        "watcher": ["alertmanager", "prometheus"],
        "spark-1": ["node_exporter"],
        "spark-2": ["node_exporter"],
    }
    assert not there["watcher"].timer and there["spark-1"].timer
    assert [there[n].parts[0].part.at for n in MANAGEMENT] == ["10.0.0.5:9100", "10.0.0.6:9100"]
    scraped = json.loads(there["watcher"].parts[1].contents[wanted.CONFIG_FILE])["scrape_configs"]
    assert [
        (job["job_name"], at, s["labels"]["node"])
        for job in scraped
        for s in job["static_configs"]
        for at in s["targets"]
    ] == [
        ("sglang", "10.0.0.5:30000", "spark-1"),
        ("sglang", "10.0.0.6:30000", "spark-2"),
        ("node", "10.0.0.5:9100", "spark-1"),
        ("node", "10.0.0.6:9100", "spark-2"),
        ("prometheus", "127.0.0.1:9090", "watcher"),
        ("alertmanager", "127.0.0.1:9093", "watcher"),
    ]


@pytest.mark.parametrize(
    ("nodes", "data", "addresses", "says"),
    [
        (2, {}, MANAGEMENT, []),
        (1, {"host": "10.0.0.5"}, MANAGEMENT, []),
        (1, {"host": "127.0.0.1", "enable_metrics": False}, MANAGEMENT, []),
        (1, {"host": "127.0.0.1"}, MANAGEMENT, ["host = '127.0.0.1'", "--data host=0.0.0.0"]),
        (1, {}, {"spark-1": "127.0.0.1"}, ["spark-1", "at 127.0.0.1", "ssh_hostname"]),
        (2, {}, MANAGEMENT | {"spark-2": "203.0.113.7"}, ["spark-2", "10.0.0.6"]),
        (1, {}, {"spark-1": "@local"}, ["at @local", "ssh_hostname"]),
    ],
)
def test_what_a_host_that_only_monitors_can_t_reach_is_refused(
    nodes: int, data: dict[str, object], addresses: dict[str, str], says: list[str]
) -> None:
    text = "; ".join(
        map(str, wanted.unreached(want(nodes, **data), sparks(), addresses, "watcher"))
    )
    assert bool(text) == bool(says)
    assert all(words in text for words in says), text


SECRET = "https://hooks.example.org/T0/B0/x9"


def test_a_receiver_s_secret_is_in_no_label_argument_or_plan() -> None:
    declaration = want(2)
    fabric = wanted.fabric_addresses(declaration, fabric_of(declaration, sparks()))
    private = wanted.Private(read_receiver(SECRET))
    head = wanted.wanted_parts(declaration, fabric, "127.0.0.1", private)["spark-1"]
    alertmanager = head.parts[1]
    assert list(alertmanager.secrets.values()) == [SECRET]
    assert SECRET not in repr(head)
    commands = (
        *(parts.create_part(alertmanager.part), parts.copy_files(alertmanager)),
        parts.compare_secrets(alertmanager),
    )
    assert SECRET not in "".join(" ".join(c.argv) + repr(c) for c in commands)
    planned = wanted.plan_node(head, reading(head), Settings())
    assert list(planned.lines()) == ["create sglang-alertmanager: its secrets differ"]
    assert not wanted.plan_node(
        head, reading(head, secrets={"sglang-alertmanager": "same"}), Settings()
    )


@pytest.mark.parametrize(
    ("chosen", "address"),
    [("loopback", "127.0.0.1"), ("management", "10.0.0.5"), ("192.168.100.10", "192.168.100.10"),
     ("0.0.0.0", "0.0.0.0")],
)  # fmt: skip
def test_an_address_of_the_head(chosen: str, address: str) -> None:
    (head,) = sparks(1).values()
    assert wanted.listen_address(Settings(monitoring_address=chosen), head, "10.0.0.5") == address


def test_an_address_that_the_head_lacks_is_refused_with_those_that_it_has() -> None:
    (head,) = sparks(1).values()
    with pytest.raises(Refused) as refusal:
        wanted.listen_address(Settings(monitoring_address="10.9.9.9"), head, "")
    assert "monitoring_address = '10.9.9.9'" in str(refusal.value)
    assert "10.0.0.5" in str(refusal.value)
    assert "monitoring_address=loopback" in str(refusal.value)


def test_grafana_comes_with_a_password_alone_and_shows_our_boards() -> None:
    declaration = want(2, grafana_anonymous=True)
    fabric = wanted.fabric_addresses(declaration, fabric_of(declaration, sparks()))
    private = wanted.Private(password="hush-9")
    assert [w.part.kind for w in desired()["spark-1"].parts][-1] == "prometheus"
    grafana = wanted.wanted_parts(declaration, fabric, "127.0.0.1", private)["spark-1"].parts[-1]
    assert grafana.part.kind == "grafana" and grafana.part.memory == "300m"
    assert grafana.url == "http://127.0.0.1:3000/api/health"
    assert "hush-9" not in repr(grafana) + grafana.part.dump() + "".join(grafana.contents.values())
    ini = configparser.ConfigParser(interpolation=None)
    ini.read_string(grafana.contents["/etc/grafana/grafana.ini"])
    assert ini["security"]["admin_password"] == f"$__file{{{next(iter(grafana.secrets))}}}"
    assert ini["auth.anonymous"]["enabled"] == "true"
    assert ini["server"]["http_addr"] == "127.0.0.1"
    documents = {
        path: json.loads(text) for path, text in grafana.contents.items() if path[-4:] != ".ini"
    }
    (source,) = documents["/etc/grafana/provisioning/datasources/spark-serving.yaml"]["datasources"]
    assert (source["uid"], source["url"]) == (SOURCE["uid"], "http://127.0.0.1:9090")
    (provider,) = documents["/etc/grafana/provisioning/dashboards/spark-serving.yaml"]["providers"]
    assert provider["allowUiUpdates"] is False
    folder = provider["options"]["path"]
    assert {path: d for path, d in documents.items() if path.startswith(folder)} == {
        f"{folder}/{name}": board for name, board in boards().items()
    }


# ---- steps


def reading(node: wanted.NodeWanted, **more: object) -> parts.MonitoringReading:
    """A node that is as it should be."""
    ready = parts.MonitoringReading(
        containers=tuple(
            Rank(w.part.name, f"id-{w.part.kind}", "running", image_id=ID, label=w.part.dump())
            for w in node.parts
        ),
        images={w.part.image: ImageReading(w.part.image, ID) for w in node.parts},
        volumes=("sglang-alertmanager", "sglang-prometheus"),
        files=parts.digests(metrics_timer.unit_files(node.timer)) if node.timer else {},
        timer="enabled active",
    )
    return replace(ready, **more)  # type: ignore[arg-type]


HEAD = desired()["spark-1"]


def steps(**more: object) -> wanted.NodeSteps:
    return wanted.plan_node(HEAD, reading(HEAD, **more), Settings())


def test_a_node_that_is_as_declared_has_no_step() -> None:
    assert not steps()


def test_what_is_missing_comes_with_the_timer() -> None:
    lines = list(steps(containers=(), files={}, timer="").lines())
    assert lines[:3] == [
        f"create sglang-{name}: is not there"
        for name in ("node-exporter", "alertmanager", "prometheus")
    ]
    assert lines[3].startswith(
        "place the metrics timer: /etc/systemd/system/spark-monitoring-sglang"
    )


@pytest.mark.parametrize("timer", ["disabled inactive", "enabled inactive", "enabled failed", ""])
def test_a_timer_that_does_not_run_is_placed_again(timer: str) -> None:
    (line,) = steps(timer=timer).lines()
    assert line == f"place the metrics timer: its timer is {timer or 'not there'}"


def test_a_file_that_somebody_edited_is_placed_again() -> None:
    files = reading(HEAD).files
    edited = next(iter(files))
    (line,) = steps(files={**files, edited: "0" * 64}).lines()
    assert line == f"place the metrics timer: {edited} differs"


DATA = ("sglang-alertmanager", "sglang-prometheus")
ABSENT = Settings(monitoring="absent")


@pytest.mark.parametrize(
    ("settings", "removed"),
    [(ABSENT, 0), (replace(ABSENT, monitoring_data="absent"), 1),
     (Settings(monitoring_data="absent"), 0)],
)  # fmt: skip
def test_absent_removes_ours_and_keeps_the_data_by_default(
    settings: Settings, removed: int
) -> None:
    there = reading(HEAD, volumes=(*DATA, "blue-prometheus"))
    node = wanted.NodeWanted() if settings.monitoring == "absent" else HEAD
    planned = wanted.plan_node(node, there, settings)
    assert planned.volumes == DATA * removed
    if settings.monitoring == "absent":
        lines = list(planned.lines())
        assert "remove sglang-prometheus: is not wanted here" in lines
        assert "remove sglang-node-exporter: is not wanted here" in lines
        assert any(line.startswith("remove the metrics timer: /") for line in lines)
    assert not wanted.plan_node(wanted.NodeWanted(), parts.MonitoringReading(), settings)


def test_another_group_s_parts_and_strangers_stay() -> None:
    blue = replace(HEAD.parts[0].part, group="blue", name="blue-prometheus")
    others = (
        Rank("blue-prometheus", "1", "running", image_id=ID, label=blue.dump()),
        Rank("grafana", "2", "running", label=None),
        Rank("odd", "3", "running", label="{}"),
    )
    assert not steps(containers=(*reading(HEAD).containers, *others))
    gone = wanted.plan_node(wanted.NodeWanted(), reading(HEAD, containers=others), ABSENT)
    assert gone.parts == ()


def obstacles(settings: Settings | None = None, **more: object) -> str:
    there = reading(HEAD, **more)
    settings = settings or Settings()
    planned = wanted.plan_node(HEAD, there, settings)
    return "\n".join(map(str, wanted.obstacles("spark-1", HEAD, planned, there, settings)))


def test_a_name_that_somebody_has_is_refused() -> None:
    taken = Rank("sglang-prometheus", "9", "running", label=None)
    assert "a container named sglang-prometheus exists and is not ours" in obstacles(
        containers=(taken,)
    )
    assert obstacles() == ""


def test_units_need_root_only_when_they_change() -> None:
    assert "cannot become root" in obstacles(no_root="a password is required", timer="")
    assert obstacles(no_root="a password is required") == ""


@pytest.mark.parametrize(
    ("listens", "taken"),
    [
        ("127.0.0.1:9100", True),
        ("0.0.0.0:9100", True),
        ("*:9100", True),
        ("[::]:9100", True),
        ("10.0.0.5:9100", False),
        ("127.0.0.1:19100", False),
        ("127.0.0.53%lo:53", False),
        ("nonsense", False),
    ],
)
def test_a_port_that_somebody_has_is_refused_before_any_change(listens: str, taken: bool) -> None:
    text = obstacles(containers=(), listens=(listens,))
    words = f"exporter would listen on 127.0.0.1:9100, and something else does, on {listens}"
    assert (words in text) == taken
    assert not taken or "--data node_exporter_port=" in text


def test_our_own_part_on_its_port_is_nobody_else() -> None:
    ours = reading(HEAD).containers
    old = replace(HEAD.parts[0].part, memory="1m")
    drifted = replace(ours[0], label=old.dump())
    assert obstacles(containers=(drifted, *ours[1:]), listens=("127.0.0.1:9100",)) == ""
    stopped = replace(ours[0], status="exited")
    assert "something else" in obstacles(
        containers=(stopped, *ours[1:]), listens=("127.0.0.1:9100",)
    )


def test_pull_never_is_refused_where_an_image_is_missing() -> None:
    text = obstacles(Settings(pull="never"), images={})
    assert "image prom/prometheus:v3.5.0 is not there, and pull = 'never'" in text
