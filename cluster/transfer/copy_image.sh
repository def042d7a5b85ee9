# shellcheck shell=sh
# $1: a folder in memory for progress and errors; $2: the image; the rest: ssh to the sender.
# Either end may fail first and break the other, so the errors of both are printed.
folder=$1 image=$2; shift 2
{ "$@" docker save "$image" 2>"$folder/sender"; echo $? >"$folder/sent"; } |
  LC_ALL=C dd bs=1M status=progress 2>"$folder/progress" |
  docker load --quiet >"$folder/loaded" 2>&1
loaded=$? sent=$(cat "$folder/sent")
[ "$loaded$sent" != 00 ] || exit 0
for log in sender loaded; do tail -n 3 "$folder/$log" >&2; done
exit 1
