#!/usr/bin/env bash
# Ends and removes what the process that holds the other end of standard input leaves behind, however it ends: by itself,
# by Ctrl-C, by SIGKILL. Both tests/run and every test program keep one. One order a line:
#
#   end SIGNAL TARGET   at the end of input; TARGET is a process id or, negative, a process group's. After 10 s: SIGKILL
#   forget TARGET       it has ended and was waited for: its id may be another's by now
#   remove DIR          at the end, when the processes are gone
trap '' HUP INT QUIT TERM

# As long as a test program's guard works, its mark keeps that of tests/run from removing the folder of them all.
mark=${WEATHER_TEST_DIR:+$WEATHER_TEST_DIR/guard.$$}
[ -z "$mark" ] || : >"$mark"

orders=() folders=()
while read -r verb rest; do
  case $verb in
  end) orders[${rest##*[ -]}]=$rest ;;
  forget) unset "orders[${rest#-}]" ;;
  remove) folders+=("$rest") ;;
  esac
done

# each TENTHS COMMAND ITEM…: the command with each item, again and again until it fails for all or the time is over.
each() {
  local tenths=$1 command=$2 item again
  shift 2
  while ((tenths-- > 0)); do
    again=''
    for item; do
      ! "$command" "$item" 2>/dev/null || again=yes
    done
    [ "$again" ] || return 0
    sleep 0.1
  done
}
# Signals are sent more than once: a shell that is about to become the server ignores some.
end() { kill -"${1% *}" -- "${1#* }"; }
end_now() { kill -KILL -- "${1#* }"; }
is_marked() { ls "$1"/guard.* >/dev/null; }
# A process that is just ending may still put a file in.
is_left() { ! rm -rf "$1"; }
# A PostgreSQL that was killed has left its System V shared memory; this line of the file says which.
free_memory() {
  local file id
  for file in "$1"/data/postmaster.pid "$1"/*/data/postmaster.pid; do
    id=$(sed -n '7s/.* //p' "$file") && [ "$id" ] && ipcrm -m "$id"
  done
}

each 100 end ${orders[@]+"${orders[@]}"}
each 1 end_now ${orders[@]+"${orders[@]}"}
each 100 is_marked ${folders[@]+"${folders[@]}"}
each 1 free_memory ${folders[@]+"${folders[@]}"}
each 20 is_left ${folders[@]+"${folders[@]}"}
[ -z "$mark" ] || rm -f "$mark"
