# Runs code for a kernel in one bash: code ended by NUL comes in on descriptor 3, events go out on 4.
# An interrupt makes the sourced code (or the function it is in) return.
__bai_running=
trap '[[ -z $__bai_running ]] || return 130' INT
printf '{"type":"ready"}\n' >&4
while :; do
    IFS= read -r -d '' __bai_code <&3
    __bai_status=$?
    [[ $__bai_status -le 128 ]] || continue
    [[ $__bai_status -eq 0 ]] || break
    trap - INT # a trap that has returned this way once would not run again
    trap '[[ -z $__bai_running ]] || return 130' INT
    __bai_running=1
    . /dev/fd/9 9<<<"$__bai_code" 3<&- 4>&- 5<&-
    __bai_status=$?
    __bai_running=
    printf '{"type":"finished","exitCode":%d}\n' "$__bai_status" >&4
done
