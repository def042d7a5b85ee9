# shellcheck shell=sh
# The end of our lines: .kept; .joined: the line before had no newline; .file, .folder: so much of
# ~/.ssh/authorized_keys is ours.
set -eu
umask 077
folder=$HOME/.ssh file=$HOME/.ssh/authorized_keys new=
[ ! -e "$file" ] || file=$(readlink -f "$file")
trap 'rm -f "$new"' EXIT
replace() { new=${file%/*}/.spark-serving-carry.$$; : >"$new"; [ ! -e "$file" ] || cp -p "$file" "$new"; }
clear() {
  [ -e "$file" ] || return 0
  ours='s/.* spark-serving-carry-[0-9a-f]+\.([a-z]+)$/\1/p'
  made=$(LC_ALL=C sed -nE "$ours" "$file" | head -n 1)
  [ -n "$made" ] || return 0
  last=$(LC_ALL=C tail -n 1 "$file" | LC_ALL=C sed -nE "$ours")
  rm -f "${file%/*}/.spark-serving-carry".*
  replace
  LC_ALL=C sed -E '/ spark-serving-carry-[0-9a-f]+\.[a-z]+$/d' "$file" >"$new"
  [ "$made,$last" != joined,joined ] || truncate -s -1 "$new"
  case $made in (file|folder) if [ ! -s "$new" ]; then
    rm -f "$new" "$file"
    [ "$made" = file ] || rmdir "$folder" || :
    return 0
  fi;; esac
  mv "$new" "$file"
}
