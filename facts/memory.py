"""The node's memory."""

from __future__ import annotations

from pyinfra.api import FactBase

from cluster import node

# macOS has no /proc; kern.memorystatus_level is the percentage of memory that is available.
_READ = """
if [ -r /proc/meminfo ]; then
  while read -r key value _; do
    case $key in (MemTotal:) echo "$key $value";; (MemAvailable:) echo "$key $value"; break;; esac
  done </proc/meminfo
else
  set -- $(sysctl -n hw.memsize kern.memorystatus_level) && [ $# = 2 ] || exit 1
  echo "MemTotal: $(($1 / 1024))"; echo "MemAvailable: $(($1 / 102400 * $2))"
fi
""".strip()


class Memory(FactBase[node.Memory]):
    """MemTotal and MemAvailable: on a GB10 nvidia-smi knows neither, the GPU shares them."""

    def command(self) -> str:
        return _READ

    def process(self, output: list[str]) -> node.Memory:
        kibibytes = dict(line.split(": ") for line in output)
        return node.Memory(
            total=int(kibibytes["MemTotal"]) * 1024,
            available=int(kibibytes["MemAvailable"]) * 1024,
        )
