"""What `env` says of the fabric is checked as the settings of the same meaning are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fabric_samples import by_node, refused, sparks, warnings

from cluster.fabric import Fabric, FabricOptions, NodeOverrides, choose_fabric
from cluster.findings import Level
from cluster.node.readings import Gid, NodeFacts

A = "enp1s0f1np1"


def both(rdma: str = "auto", **env: str) -> FabricOptions:
    wish = NodeOverrides(env=env)
    return replace(by_node(spark_1=wish, spark_2=wish), rdma=rdma)  # type: ignore[arg-type]


def chosen(**env: str) -> Fabric:
    return choose_fabric(sparks(), both(**env))


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"NCCL_IB_HCA": "mlx5_0"}, "env NCCL_IB_HCA 'mlx5_0' does not exist here"),
        ({"NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:1"}, "env NCCL_IB_HCA 'mlx5_1' does not exist here"),
        ({"NCCL_IB_HCA": "=rocep1s0f"}, "env NCCL_IB_HCA 'rocep1s0f' does not exist here"),
        ({"NCCL_IB_HCA": "rocep1s0f1:2"}, "an HCA has only port 1"),
        ({"NCCL_IB_HCA": "rocep1s0f0"}, "env NCCL_IB_HCA rocep1s0f0 is DOWN"),
        ({"NCCL_IB_HCA": "^roce"}, "env NCCL_IB_HCA '^roce' selects no HCA that is Up"),
        ({"NCCL_SOCKET_IFNAME": "eth0"}, "env NCCL_SOCKET_IFNAME 'eth0' does not exist here"),
        ({"NCCL_SOCKET_IFNAME": "=enp1s0f"}, "env NCCL_SOCKET_IFNAME 'enp1s0f' does not exist"),
        ({"NCCL_SOCKET_IFNAME": "enp1s0f0np0"}, "NCCL_SOCKET_IFNAME enp1s0f0np0 has no IPv4"),
        ({"GLOO_SOCKET_IFNAME": "ib0"}, "env GLOO_SOCKET_IFNAME 'ib0' does not exist here"),
        ({"GLOO_SOCKET_IFNAME": "^docker"}, "env GLOO_SOCKET_IFNAME '^docker' does not exist"),
        ({"GLOO_SOCKET_IFNAME": "enp1s0f0np0"}, "GLOO_SOCKET_IFNAME enp1s0f0np0 has no IPv4"),
        ({"TP_SOCKET_IFNAME": "eth1"}, "env TP_SOCKET_IFNAME 'eth1' does not exist here"),
        ({"UCX_NET_DEVICES": "mlx5_0:1"}, "env UCX_NET_DEVICES 'mlx5_0' does not exist here"),
        ({"UCX_NET_DEVICES": "rocep1s0f0:1"}, "env UCX_NET_DEVICES 'rocep1s0f0' is DOWN"),
        ({"SGLANG_HOST_IP": "10.3.3.3"}, "env SGLANG_HOST_IP 10.3.3.3 is not on this node"),
        ({"SGLANG_HOST_IP": "spark-1"}, "env SGLANG_HOST_IP 'spark-1' is not an IPv4 address"),
        ({"HOST_IP": "10.3.3.3"}, "env HOST_IP 10.3.3.3 is not on this node"),
        ({"NCCL_IB_DISABLE": "1"}, "env NCCL_IB_DISABLE = '1' contradicts rdma = 'auto'"),
        ({"NCCL_NET": "Socket"}, "env NCCL_NET = 'Socket' contradicts rdma = 'auto'"),
        ({"NCCL_SOCKET_FAMILY": "AF_INET6"}, "contradicts the fabric's IPv4 addresses"),
    ],
)
def test_a_device_no_node_has_is_refused_with_the_setting(
    env: dict[str, str], expected: str
) -> None:
    text = refused(sparks(), both(**env))
    assert expected in text
    assert f"remove {next(iter(env))} from env" in text


@pytest.mark.parametrize(
    ("env", "setting"),
    [
        ({"NCCL_IB_HCA": "rocep1s0f1"}, "nccl_ib_hca = 'rocep1s0f1'"),
        ({"NCCL_IB_HCA": "=rocep1s0f1:1,roceP2p1s0f1:1"}, "nccl_ib_hca = '=rocep1s0f1:1,"),
        ({"NCCL_IB_HCA": "roce"}, "nccl_ib_hca = 'roce'"),
        ({"NCCL_IB_HCA": "^mlx5_bond_0"}, "nccl_ib_hca = '^mlx5_bond_0'"),
        ({"NCCL_SOCKET_IFNAME": A}, f"nccl_socket_ifname = '{A}'"),
        ({"NCCL_SOCKET_IFNAME": "enp1"}, "nccl_socket_ifname = 'enp1'"),
        ({"NCCL_SOCKET_IFNAME": "^lo,docker"}, "nccl_socket_ifname = '^lo,docker'"),
        ({"GLOO_SOCKET_IFNAME": A}, f"gloo_socket_ifname = '{A}'"),
        ({"NCCL_DEBUG": "WARN"}, "set nccl_debug"),
        ({"MASTER_ADDR": "192.168.100.10"}, "use the settings address and dist_port"),
        ({"VLLM_HOST_IP": "192.168.100.10"}, "use the setting address"),
        ({"NCCL_IB_GID_INDEX": "3"}, "remove NCCL_IB_GID_INDEX from env"),
        ({"NCCL_NET": "AWS Libfabric"}, "remove NCCL_NET from env"),
    ],
)
def test_effective_env_values_are_noted_with_their_setting(
    env: dict[str, str], setting: str
) -> None:
    fabric = chosen(**env)
    assert setting in warnings(fabric)
    assert fabric.transport == "rdma"


@pytest.mark.parametrize(
    "env",
    [
        {"NCCL_IB_DISABLE": "0"},
        {"NCCL_NET": "IB"},
        {"UCX_NET_DEVICES": "rocep1s0f1:1"},
        {"UCX_NET_DEVICES": "all"},
        {"NCCL_IB_QPS_PER_CONNECTION": "4"},
        {"NCCL_IB_GID_INDEX": "-1"},
        {"TP_SOCKET_IFNAME": A},
        {"OMP_NUM_THREADS": "8"},
    ],
)
def test_valid_env_values_have_no_findings(env: dict[str, str]) -> None:
    assert chosen(**env).findings == ()


def test_an_hca_set_in_env_decides_the_choice() -> None:
    fabric = chosen(NCCL_IB_HCA="roceP2p1s0f1")
    assert [n.hcas for n in fabric.nodes] == [("roceP2p1s0f1",)] * 2
    assert fabric.nodes[0].address == "192.168.101.10"


def test_the_address_in_env_is_the_rendezvous_address() -> None:
    wishes = by_node(
        spark_1=NodeOverrides(env={"SGLANG_HOST_IP": "192.168.101.10"}),
        spark_2=NodeOverrides(env={"SGLANG_HOST_IP": "192.168.101.11"}),
    )
    assert [n.address for n in choose_fabric(sparks(), wishes).nodes] == [
        "192.168.101.10",
        "192.168.101.11",
    ]


def test_one_nodes_env_may_differ() -> None:
    message = refused(sparks(), by_node(spark_2=NodeOverrides(env={"NCCL_IB_HCA": "mlx5_0"})))
    assert message.startswith("spark-2: ")
    assert "spark-1" not in message.replace("spark-1 ", "")


def test_a_setting_that_contradicts_env() -> None:
    wish = NodeOverrides(nccl_ib_hca="rocep1s0f1", env={"NCCL_IB_HCA": "roceP2p1s0f1"})
    message = refused(sparks(), by_node(spark_1=wish))
    assert (
        "nccl_ib_hca = 'rocep1s0f1' and env NCCL_IB_HCA = 'roceP2p1s0f1' contradict each other"
        in message
    )


def test_rdma_off_and_env_on() -> None:
    message = refused(sparks(), both("off", NCCL_IB_DISABLE="0"))
    assert "env NCCL_IB_DISABLE = '0' contradicts rdma = 'off'" in message
    assert choose_fabric(sparks(), both("off", NCCL_IB_DISABLE="1")).transport == "tcp"


def with_gids(*indices: int) -> list[NodeFacts]:
    def numbered(node: NodeFacts) -> NodeFacts:
        ports = (
            replace(p, gids=tuple(Gid(i, p.interface.ipv4[0].partition("/")[0]) for i in indices))
            if p.up
            else p
            for p in node.rdma
        )
        return replace(node, rdma=tuple(ports))

    return [numbered(node) for node in sparks()]


def test_a_gid_index_that_the_hca_does_not_have() -> None:
    message = refused(with_gids(3), both(NCCL_IB_GID_INDEX="1"))
    assert "env NCCL_IB_GID_INDEX = '1' is not an IPv4 RoCE v2 GID of rocep1s0f1" in message
    assert "available: 3 (192.168.100.10)" in message
    fabric = choose_fabric(with_gids(3, 5), both(NCCL_IB_GID_INDEX="5"))
    assert [f.level for f in fabric.findings] == [Level.WARNING] * 2


def test_a_single_node_needs_no_hca_and_yet_its_interface() -> None:
    alone = sparks(1)
    assert choose_fabric(alone, by_node(spark_1=NodeOverrides(env={"NCCL_IB_HCA": "mlx5_0"}))).nodes
    message = refused(alone, by_node(spark_1=NodeOverrides(env={"NCCL_SOCKET_IFNAME": "eth0"})))
    assert "env NCCL_SOCKET_IFNAME 'eth0' does not exist here" in message
