# shellcheck shell=sh disable=SC2154
# $at is the folder (or a lone GGUF file). Lines: a word, a tab, a value; `size` lines as wc's.
printf 'path\t%s\n' "$at"
if [ -f "$at" ]; then wc -c "$at"; exit; fi
if [ ! -d "$at" ]; then
  why=$(LC_ALL=C ls -d "$at" 2>&1)
  case $why in (*"ermission denied"*) echo "$why" >&2; exit 1;; (*) exit 0;; esac
fi
cd "$at" || exit
[ ! -f config.json ] || echo "config"
[ -z "${show-}" ] || [ ! -f config.json ] ||
  printf 'json\t%s\n' "$(head -c 1048577 config.json | tr '\t\r\n' '   ')"
for f in *.index.json; do
  [ ! -f "$f" ] || grep -oE '"[^"]+\.(safetensors|bin)"' "$f" | sort -u |
    while read -r shard; do printf 'shard\t%s\t%s\n' "$f" "$shard"; done
done
set --; for f in *.safetensors *.bin *.gguf; do [ ! -f "$f" ] || set -- "$@" "$f"; done
[ $# = 0 ] || LC_ALL=C wc -c "$@"
