# shellcheck shell=sh
# sudo hides SSH_CONNECTION: an ancestor has it. Words of files are printed by name alone: they hold
# Wi-Fi passwords. NetworkManager's files in /run are its own passing ones, or netplan's.
own=$1 guard=$2; shift 2
! systemctl is-active -q "$(cat "$guard/unit" 2>/dev/null)" 2>/dev/null || echo guarded
pid=$$ ssh=
while [ "${pid:-0}" -gt 1 ] && [ -z "$ssh" ]; do
  ssh=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^SSH_CONNECTION=//p')
  pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")
done
if [ -n "$ssh" ]; then
  at=$(echo "$ssh" | cut -d' ' -f3 | sed 's/^::ffff://; s/%.*//')
  echo "ssh $(ip -o addr show to "$at" 2>/dev/null | sed -n '1s/^[0-9]*: *\([^ @]*\).*/\1/p')"
fi
! command -v netplan >/dev/null || echo netplan
echo "routes $(ip -j -4 route)"
for f in /etc/netplan/*.yaml /run/netplan/*.yaml /lib/netplan/*.yaml \
    /etc/systemd/network/*.network /etc/NetworkManager/system-connections/* \
    /etc/network/interfaces /etc/network/interfaces.d/*; do
  [ -f "$f" ] && [ "$f" != "$own" ] || continue
  text=$(sed 's/#.*//' "$f")
  for word; do
    ! printf '%s\n' "$text" | grep -qwiF -e "$word" || printf 'claim\t%s\t%s\n' "$f" "$word"
  done
  key='[[:space:]]*[:=][[:space:]]*'
  value='["'\'']?([^]"'\'',}]*)'
  printf '%s\n' "$text" | sed -nE "s~^(.*[^a-z-])?([Nn]ame|interface-name)$key$value.*~\3~p" |
    while read -r names; do printf 'pattern\t%s\t%s\n' "$f" "$names"; done
  printf '%s\n' "$text" | sed -nE "s~^(.*[^a-z-])?[Dd]river$key$value.*~\2~p" |
    while read -r names; do printf 'driver\t%s\t%s\n' "$f" "$names"; done
done
[ ! -f "$own" ] || { echo own; cat "$own"; }
