# Exercise 1.2: what the suite of stage 1 sees as well, in a small case.
#
# shellcheck disable=SC2030,SC2031,SC2154,SC2034,SC2016

load ../../tests/helpers/common

setup() { common_setup; }
teardown() { common_teardown; }

@test "an echo that comes in pieces is put together" {
    start_server echo-server 127.0.0.1 0
    run timeout 5 env "LD_PRELOAD=$build/shim.so" SHIM_RECEIVE=5 "$build/echo-client" 127.0.0.1 "$port"
    assert_output "Received 'Hello, world'"
    assert_success
}
