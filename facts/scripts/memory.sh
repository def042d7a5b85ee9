# shellcheck shell=sh disable=SC2046,SC2017
# macOS has no /proc; kern.memorystatus_level is the percentage of memory that is available.
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
