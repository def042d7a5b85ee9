# shellcheck shell=sh
# $1: the folder of what one rank compiles. Root writes to `kernels`, the login to the rest.
for at in "$1" "${1%/*}" "${1%/*/*}"; do
  [ ! -L "$at" ] || { echo "$at is a link -> rm $at" >&2; exit 1; }
done
mkdir -p "$1/kernels" "$1/served"
