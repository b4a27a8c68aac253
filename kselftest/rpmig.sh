#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Plays rpmig's scenarios, and prints KTAP. The arguments are those of rpmig run: by KSELFTEST_RPMIG_SH_ARGS, as the runner has it.
# The exit status is rpmig's: 0 as expected, 1 the kernel did otherwise, 4 nothing could be played here (SKIP), 70 no conclusion.

cd "$(dirname "$0")" || exit 1
if [ ! -x ./rpmig ]; then
	echo "rpmig.sh: rpmig is not beside it: make -C tools/testing/selftests TARGETS=rpmig RPMIG=/path/to/rpmig" >&2
	exit 1
fi
[ $# -gt 0 ] || set -- all --migrate=all
exec ./rpmig run "$@" --format=ktap
