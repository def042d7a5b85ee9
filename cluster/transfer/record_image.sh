# shellcheck shell=sh
# $1 cache_dir, $2 an image's reference, $3 the name that Docker shows; stdin: the ids of the images
# that were there before. A record is a file in images/, called by the id, with the names.
id=$(docker image inspect --format '{{.Id}}' "$2") || exit
file=$1/images/${id#sha256:}
[ ! -L "$1/images" ] || { echo "$1/images is a link -> rm $1/images" >&2; exit 1; }
if [ ! -f "$file" ]; then
  ! grep -qxF "$id" || exit 0
  mkdir -p "$1/images" || exit
fi
grep -qxF "$3" "$file" 2>/dev/null || printf '%s\n' "$3" >>"$file"
