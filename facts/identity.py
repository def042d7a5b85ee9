"""Which machine answers."""

from __future__ import annotations

import hashlib

from cluster.node import readings
from facts.fact import Fact, decimal

_READ = """
id= host=; { read -r id </etc/machine-id; read -r host </proc/sys/kernel/hostname; } 2>/dev/null
printf '%s\\n' "$id" "${host:-$(uname -n)}" "$HOME"; date +%s.%N
""".strip()


class Identity(Fact[readings.Identity]):
    """Machine id, host name, clock and the login's home."""

    def command(self) -> str:
        return _READ

    def parse(self, output: list[str]) -> readings.Identity:
        machine_id, hostname, home, clock = output
        if not home.startswith("/"):
            raise ValueError(f"no home folder: {home[:40]!r}")
        return readings.Identity(
            machine_id=machine_id or hashlib.sha256(hostname.encode()).hexdigest()[:32],
            hostname=hostname,
            # macOS' date knows no %N and prints it as it stands.
            clock=decimal(clock.removesuffix("N").removesuffix(".")),
            home=home,
        )
