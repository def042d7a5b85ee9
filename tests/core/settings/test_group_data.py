"""inventories/group_data/all.py says how pyinfra connects, and sets nothing else."""

from __future__ import annotations

import runpy
from pathlib import Path

PAGE = Path(__file__).parents[3] / "inventories" / "group_data" / "all.py"


def test_group_data_sets_only_ssh() -> None:
    data = {name for name in runpy.run_path(str(PAGE)) if not name.startswith("_")}
    assert data - {"nodelay"} == {"ssh_strict_host_key_checking", "ssh_paramiko_connect_kwargs"}
