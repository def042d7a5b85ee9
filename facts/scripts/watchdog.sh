# shellcheck shell=sh
# watchdog.sh UNIT CONFIG FILE…: what a node has of a group's watchdog, a line each.
unit=$1 config=$2; shift 2
for file; do
  [ ! -f "$file" ] || sha256sum "$file" | { read -r sum name && printf 'file %s %s\n' "$sum" "$name"; }
done
[ ! -f "$config" ] || { printf 'config '; head -c 4096 "$config" | tr '\n' ' '; echo; }
if command -v systemctl >/dev/null; then
  printf 'unit %s %s\n' "$(systemctl is-enabled "$unit" 2>/dev/null)" \
    "$(systemctl is-active "$unit" 2>/dev/null)"
fi
ss -Hltn 2>/dev/null | while read -r _ _ _ at _; do printf 'listens %s\n' "$at"; done
/usr/bin/python3 -c 'import sys; print("python", *sys.version_info[:2])' 2>/dev/null
if [ "$(id -u)" != 0 ]; then why=$(sudo -n true 2>&1) || printf 'no-root %s\n' "$(printf %s "$why" | tr '\n' ' ')"; fi
