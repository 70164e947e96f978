# Runs Maven's tests in a copy of the tree, since Maven writes beside its sources, and passes its reports on.
# Called as: sh java_run.sh WORD MVN ARGUMENT...
word=$1
shift
# before anything of the tree is read
(cd / && "$1" --version) >&2 || exit 1
mkdir /tmp/tree && cp -R /repo/. /tmp/tree && cd /tmp/tree || exit 1
printf '%s {"started": "maven"}\n' "$word"
# reports that somebody committed are none of this run
find . -type d -name surefire-reports -prune -exec rm -rf {} +
"$@" >&2
code=$?
find . -type f -path '*/surefire-reports/TEST-*.xml' | LC_ALL=C sort | while read -r file; do
    printf '%s {"file": "%s", "xml": "%s"}\n' "$word" "$(printf %s "$file" | base64 -w 0)" "$(base64 -w 0 "$file")"
done
printf '%s {"finished": "%s"}\n' "$word" "$code"
exit "$code"
