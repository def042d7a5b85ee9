# shellcheck shell=sh disable=SC2034,SC2086
# `[-]` keeps grep from finding this very command. Anybody may start a process with such arguments:
# only the login's own are ranks. ps tells the start by date, which drifts by a second on Linux:
# /proc has it in ticks since boot (field 22 of stat, the 20th after the name).
own=$(id -u)
all=$(LC_ALL=C ps -A -ww -o pid= -o ppid= -o uid= -o lstart= -o args=) || exit
printf '%s\n' "$all" | grep -e ' [-]-spark-serving-spec=' |
while read -r pid parent uid wd month day time year args; do
  [ "$uid" = "$own" ] || continue
  start="$year $month $day $time"
  if { read -r stat </proc/$pid/stat; } 2>/dev/null; then set -- ${stat##*) }; start=${20}; fi
  printf '%s\t' "$pid" "$parent" "$start"; printf '%s\n' "$args"
done
