# shellcheck shell=sh disable=SC2154
# $root (set before): the node's `cache_dir`. Fails where the login may not write, or create, what is
# below it; prints the marks of what has served.
p=$root/compile; while [ ! -e "$p" ]; do p=${p%/*}; p=${p:-/}; done
for at in "$p" "$root"/compile/*; do
  [ ! -e "$at" ] || [ -w "$at" ] || { echo "$at is not writable" >&2; exit 1; }
done
cd "$root/compile" 2>/dev/null || exit 0
for f in */*/served/*; do printf '%s\n' "$f"; done
