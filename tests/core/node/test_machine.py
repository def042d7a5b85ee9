"""Settings of a node's system: what is asked for, what speaks against it, and the words."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.node.host import (
    HostSetup,
    drop_caches,
    enable_linger,
    setting_objections,
    untouched_settings,
)
from cluster.settings.schema import Settings

BARE = HostSetup("nvidia", remove_ipc=True)
ARGUMENTS = (Path(__file__).parents[3] / "templates" / "earlyoom.j2").read_text()


@pytest.mark.parametrize(
    ("setup", "settings", "lines"),
    [
        pytest.param(
            BARE,
            {},
            [
                "linger=false: nvidia's stays off",
                "earlyoom=false: it is not installed, and stays so",
            ],
            id="nothing asked for",
        ),
        pytest.param(
            replace(BARE, linger=True, earlyoom=True),
            {},
            ["linger=false: nvidia's stays on", "earlyoom=false: it is installed, and stays so"],
            id="there already",
        ),
        pytest.param(
            BARE,
            {"ipc": "host", "earlyoom": True},
            [
                "linger=false: nvidia's stays off: RemoveIPC will delete the semaphores of "
                "ipc=host; set linger=true"
            ],
            id="ipc=host",
        ),
        pytest.param(
            replace(BARE, remove_ipc=None),
            {"ipc": "host", "earlyoom": True},
            ["linger=false: nvidia's stays off"],
            id="ipc=host without logind",
        ),
        pytest.param(BARE, {"linger": True, "earlyoom": True}, [], id="all asked for"),
    ],
)
def test_settings_left_alone_are_reported(
    setup: HostSetup, settings: dict[str, Any], lines: list[str]
) -> None:
    assert list(untouched_settings(setup, Settings(**settings))) == lines


@pytest.mark.parametrize(
    ("setup", "settings", "messages"),
    [
        pytest.param(replace(BARE, no_root="sudo: no"), {}, [], id="nothing asked for"),
        pytest.param(
            replace(BARE, no_root="sudo: no"),
            {"linger": True},
            ["the login cannot become root without a password: sudo: no"],
            id="no root",
        ),
        pytest.param(
            replace(BARE, apt=False),
            {"earlyoom": True},
            ["earlyoom=true installs its package with apt, which is not there"],
            id="no apt",
        ),
        pytest.param(
            replace(BARE, apt=False, earlyoom=True), {"earlyoom": True}, [], id="installed, no apt"
        ),
        pytest.param(BARE, {"linger": True, "earlyoom": True}, [], id="usual"),
    ],
)
def test_objections_are_named(
    setup: HostSetup, settings: dict[str, Any], messages: list[str]
) -> None:
    assert [f.what for f in setting_objections("spark-1", setup, Settings(**settings))] == messages


def test_the_page_cache_is_dropped_by_a_container_of_a_local_image() -> None:
    assert shlex.join(drop_caches("an:image").bounded) == (
        "timeout --kill-after=5 120 docker run --rm --privileged --network none --pull never "
        "--entrypoint sh an:image -c 'sync; echo 3 >/proc/sys/vm/drop_caches'"
    )


def test_lingering_is_bounded() -> None:
    assert shlex.join(enable_linger("a user").bounded) == (
        "timeout --kill-after=5 30 loginctl enable-linger 'a user'"
    )


@pytest.mark.parametrize(
    ("option", "name", "meets"),
    [
        *[
            pytest.param("prefer", name, True, id=f"prefer {name}")
            # /proc/PID/comm holds 15 characters
            for name in ("python", "python3", "sglang::schedul", "sglang::detoken")
        ],
        pytest.param("prefer", "python3.12-conf", False, id="another program"),
        *[
            pytest.param("avoid", name, True, id=f"avoid {name}")
            for name in ("systemd", "systemd-logind", "sshd", "dockerd", "containerd")
        ],
        pytest.param("avoid", "sglang::schedul", False, id="SGLang is not avoided"),
        pytest.param("avoid", "python3", False, id="Python is not avoided"),
    ],
)  # fmt: skip
def test_earlyoom_patterns_match_the_right_processes(option: str, name: str, meets: bool) -> None:
    given = re.search(rf"--{option} '([^']+)'", ARGUMENTS)
    assert given
    assert bool(re.search(given[1], name)) is meets
