"""The fault matrix: every fault in every phase leaves the wanted group or the one before it, never
half of one, never in silence; and the next deploy converges. `make faults` runs and prints it all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import matrix
import pytest
from deploying import Deploy
from matrix import PHASES, RESULTS, Scene, Sight

Act = Callable[[Scene], None]


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    + act: what it does; None: it strikes the controller, not the cluster
    + ends: phase → how a struck deploy may end (see matrix.py)
    + no: phase → why the fault makes no sense in it
    + own: phase → what it does there instead of `act`
    + blind, cut: what it strikes can't be read, can't be reached by the controller, while it lasts
    + late: in the phase "start" it needs a rank that has started
    + image: in the phase "start" the wanted group has an image of its own
    + data: further settings of the deploy after a fault in the phase "serving"
    """

    act: Act | None
    ends: dict[str, str]
    no: dict[str, str] = field(default_factory=dict)
    own: dict[str, Act] = field(default_factory=dict)
    blind: bool = False
    cut: bool = False
    late: bool = False
    image: bool = False
    data: dict[str, object] = field(default_factory=dict)


def ends(image: str, weights: str, start: str, wait: str, serving: str) -> dict[str, str]:
    return dict(zip(PHASES, (image, weights, start, wait, serving), strict=True))


# No rank was touched. Whether the group before still serves is up to the fault, and to the second.
LEFT = "previous untouched"
NO_RANK_READS = "the ranks that serve have read theirs; a start reads it: column start"
FAULTS = {
    "kill controller": Fault(
        None, ends("killed", "killed", "killed", "killed", ""), no={"serving": "none runs"}
    ),
    "kill dockerd": Fault(
        matrix.kill_dockerd,
        ends("wanted previous untouched", "wanted", "wanted", "previous", "wanted"),
    ),
    "freeze dockerd": Fault(
        matrix.freeze_dockerd, ends(LEFT, LEFT, "stopped", "stopped", LEFT), blind=True
    ),
    "power off": Fault(matrix.power_off, ends(LEFT, LEFT, "stopped", "stopped", LEFT), blind=True),
    "freeze node": Fault(
        matrix.freeze_node, ends(LEFT, LEFT, "stopped", "stopped", LEFT), blind=True
    ),
    "cut the fabric": Fault(matrix.cut_fabric, ends(LEFT, LEFT, "stopped", "stopped", LEFT)),
    "cut management": Fault(
        matrix.cut_management, ends(LEFT, LEFT, "stopped", "stopped", LEFT), cut=True
    ),
    "fill the disk": Fault(
        matrix.fill_disk, ends(LEFT, LEFT, "stopped previous", "wanted", "wanted")
    ),
    "memory-kill": Fault(
        matrix.kill_for_memory,
        ends("wanted", "wanted", "previous", "previous", "wanted"),
        late=True,
    ),
    "corrupt a layer": Fault(
        matrix.corrupt_layer_on_node,
        ends("wanted", "", "previous", "", ""),
        own={"image": matrix.corrupt_layer_at_registry},
        image=True,
        no={"weights": NO_RANK_READS, "wait": NO_RANK_READS, "serving": NO_RANK_READS},
    ),
    "corrupt a weight": Fault(
        matrix.corrupt_weights_on_node,
        ends("wanted", "previous", "", "", "wanted"),
        own={"weights": matrix.corrupt_weights_at_hub},
        no={
            "start": "checked before; what the engine then reads is the engine's",
            "wait": "the same; --data verify=full finds it: column serving",
        },
        data={"verify": "full"},
    ),
    "change a host key": Fault(
        matrix.change_host_key, ends(LEFT, LEFT, "stopped", "stopped", LEFT), cut=True
    ),
    # A run that changes nothing sends no probe, and neither does a group that is put back.
    "talk nonsense": Fault(
        matrix.talk_nonsense,
        ends("previous", "previous", "previous", "previous", "wanted"),
    ),
    "expire the token": Fault(
        matrix.expire_token,
        ends("", "previous", "", "", ""),
        no=dict.fromkeys(("image", "start", "wait", "serving"), "only a download has it"),
    ),
}
# In every test run: what no other test of the cluster shows. Of the others' kinds, `test_weights`
# has a token that has expired and a weight that is corrupt, `test_switch_killed` a controller that
# is killed, `test_switch` a rank that dies, and `test_reboot` a dockerd that is killed.
QUICK = {
    ("cut the fabric", "weights"),
    ("fill the disk", "start"),
    ("talk nonsense", "wait"),
}


def cells() -> list[object]:
    return [
        pytest.param(
            fault,
            phase,
            id=f"{fault}-{phase}",
            marks=[] if (fault, phase) in QUICK else [pytest.mark.faults],
        )
        for fault, row in FAULTS.items()
        for phase in PHASES
        if phase not in row.no
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("fault", "phase"), cells())
def test_a_fault_never_leaves_half(served: Deploy, tmp_path: Path, fault: str, phase: str) -> None:
    row = FAULTS[fault]
    RESULTS[fault, phase] = "FAILED"
    cluster = served.cluster
    scene = Scene(served, matrix.STEPS[phase].node if phase in matrix.STEPS else 2)
    struck = frozenset({scene.node})
    sight = Sight(struck if row.blind else frozenset(), struck if row.cut else frozenset())
    act = row.own.get(phase, row.act)
    late = row.late and phase == "start"
    before = matrix.ids(cluster)
    with matrix.stage(served, phase, tmp_path, row.image and phase == "start") as data:
        scene.hub = data.pop("hub", None)
        wanted = matrix.wanted_of(data)
        more = row.data if phase == "serving" else {}
        begun = time.monotonic()
        with matrix.struck(scene, phase, act, late, {**data, **more}) as done:
            seconds = time.monotonic() - begun
            end = matrix.outcome(cluster, done, before, wanted, sight)
        assert end in row.ends[phase].split(), matrix.combined_output(done)
        assert seconds < matrix.DEADLINE, matrix.combined_output(done)
        begun = time.monotonic()
        matrix.converges(served, data, wanted)
    again = time.monotonic() - begun
    RESULTS[fault, phase] = f"{end} {seconds:.0f} s, then {again:.0f} s"


def report() -> list[str]:
    """The table, with what was run; nothing where only the quick cells were."""
    if not set(RESULTS) - QUICK:
        return []
    rows = {
        fault: {p: "n/a" if p in row.no else RESULTS.get((fault, p), "-") for p in PHASES}
        for fault, row in FAULTS.items()
    }
    notes = [f"n/a  {f} x {p}: {why}" for f, row in FAULTS.items() for p, why in row.no.items()]
    return [*matrix.table(rows), "", *notes]
