# shellcheck shell=sh disable=SC2154
# One line of stdin for each key: the address that it may come from, its type, the key.
clear
made=kept
[ -d "$folder" ] || { mkdir -m 700 "$folder"; made=folder; }
if [ ! -e "$file" ]; then [ $made = folder ] || made='file'
elif [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then made=joined; fi
until=$(unset TZ; date -d "@$(($(date +%s) + $2))" +%Y%m%d%H%M%S)
replace
[ $made != joined ] || echo >>"$new"
while read -r from type key; do
  printf 'restrict,from="%s",expiry-time="%s",command="%s" %s %s %s\n' \
    "$from" "$until" "$3" "$type" "$key" "spark-serving-carry-$1.$made"
done >>"$new"
mv "$new" "$file"
