# shellcheck shell=sh
# $1 what to do: acquire, refresh, release or read; $2 parent folder; $3 group; $4 id of the run;
# $5 seconds until a lease is stale. The lease comes on stdin. Prints `HOW [AGE]`, then the file.
# The lock is the parent's: our own folder comes and goes.
# A Mac lacks `timeout`: there, what becomes a pipe between the look at it and its opening is waited
# for.
base=$2; [ -d "$base" ] && [ -w "$base" ] || base=${TMPDIR:-/tmp}
dir=$base/spark-serving; file=$dir/$3.lease
exec 9<"$base" || exit
! command -v flock >/dev/null || flock -w 5 9 || { echo "$base is locked" >&2; exit 1; }
[ ! -L "$dir" ] || { echo "$dir is a link -> rm $dir" >&2; exit 1; }
limit=; ! command -v timeout >/dev/null || limit="timeout 2"
there() { [ -f "$file" ] && [ ! -L "$file" ]; }
age() {
  at=$(stat -c %Y "$file" 2>/dev/null || stat -f %m "$file") && echo $(($(date +%s) - at))
}
# Of a file that any login may write, no more than 64 kB are read.
show_lease() { $limit head -c 65536 "$file" 9<&-; }
ours() { there && show_lease 2>/dev/null | grep -qF "\"id\":\"$1\""; }
acquire() {
  umask 0
  [ -d "$dir" ] || mkdir "$dir" || exit
  part=$dir/.$1.part
  trap 'rm -f "$part"; rmdir "$dir" 2>/dev/null' EXIT
  cat >"$part" || exit
  if ! there; then
    [ ! -d "$file" ] || [ -L "$file" ] || { echo "$file is a folder -> rm -r $file" >&2; exit 1; }
    there || rm -f "$file"
    if ln "$part" "$file"; then echo taken; exit 0; fi
  fi
  # A time in the future is no live lease's.
  seen=$(age) || exit
  how=stale
  [ "$seen" -ge "$2" ] || [ "$seen" -le "-$2" ] || how=held
  echo "$how $seen"; show_lease
  [ $how = held ] || mv -f "$part" "$file"
}
refresh() {
  there || { echo gone; exit 0; }
  if ours "$1"; then touch -c "$file" && echo ours; else echo "held $(age)"; show_lease; fi
}
release() {
  ! ours "$1" || rm -f "$file"
  rmdir "$dir" 2>/dev/null || true
}
read_lease() { ! there || { echo "held $(age)"; show_lease; }; }
case $1 in
  (acquire) acquire "$4" "$5";;
  (refresh) refresh "$4";;
  (release) release "$4";;
  (read) read_lease;;
esac
