# shellcheck shell=sh
# $1 folder, $2 file, $3 image; $4 puts the token (stdin) there, $5 removes it; the rest starts the client.
# stdin: the token, an empty line where there is none; then the client's task in pieces. All in one
# command, so that a controller that is killed leaves no token that no client will take away.
IFS= read -r token || exit
at=$1 name=$2 image=$3 place=$4 forget=$5; shift 5
while IFS= read -r piece; do set -- "$@" "$piece"; done
in_folder() {
  docker run --rm --interactive --network none --entrypoint sh --volume "$at:/at" "$image"     -c "$1" sh "$name"
}
[ -z "$token" ] || printf %s "$token" | in_folder "$place" || exit
"$@" </dev/null && exit
code=$?
[ -z "$token" ] || in_folder "$forget" </dev/null
exit $code
