"""The node's memory."""

from __future__ import annotations

from cluster.node import readings
from facts.fact import Fact, count

# macOS has no /proc; kern.memorystatus_level is the percentage of memory that is available.
_READ = """
if [ -r /proc/meminfo ]; then
  while read -r key value _; do
    case $key in
      (MemTotal:|MemAvailable:) echo "$key $value";;
      (SwapTotal:) echo "$key $value"; break;;
    esac
  done </proc/meminfo
else
  set -- $(sysctl -n hw.memsize kern.memorystatus_level) && [ $# = 2 ] || exit 1
  echo "MemTotal: $(($1 / 1024))"; echo "MemAvailable: $(($1 / 102400 * $2))"
fi
""".strip()


class Memory(Fact[readings.Memory]):
    """Memory and swap: on a GB10 the GPU shares the memory, and nvidia-smi does not know it."""

    def command(self) -> str:
        return _READ

    def parse(self, output: list[str]) -> readings.Memory:
        kibibytes = dict(line.split(": ") for line in output if line.count(": ") == 1)
        return readings.Memory(
            total=count(kibibytes["MemTotal"]) * 1024,
            available=count(kibibytes["MemAvailable"]) * 1024,
            swap=count(kibibytes.get("SwapTotal", "0")) * 1024,
        )
