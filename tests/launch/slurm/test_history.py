"""When a run is started again by itself, and where not."""

import pytest

from medvq.launch.slurm.history import reason_to_give_up, suspects
from medvq.launch.slurm.requeue import time_is_up


def history(*words):
    """`a` attempt on host a…; `3` checkpoint at step 3; `s3` stopped; `x` broke down; `l` time limit; `f` failed."""
    out = []
    for word in words:
        kind, rest = word[0], word[1:]
        if kind == "a":
            out.append({"event": "attempt", "hosts": list(rest or "h")})
        elif kind == "s":
            out.append({"event": "stopped", "step": int(rest)})
        elif kind in "xlf":
            out.append({"event": {"x": "crashed", "l": "limit", "f": "failed"}[kind], "error": "signal 9"})
        else:
            out.append({"event": "checkpoint", "step": int(word)})
    return out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("a x", None),
        ("a x a x", "broke down 2 times"),
        ("a 3 x a 5 x a 9 x", None),
        ("a 3 x a x", "broke down 2 times"),
        ("a x f a x", None),
        ("a s3 l a s6 l", None),
        ("a s3 l a s3 l a s3 l", "time limit 2 times in a row at step 3"),
        ("a s3 a s3 a s3", None),
        ("x x", "broke down 2 times"),
    ],
)
def test_no_progress_between_two_attempts_is_the_end(words, reason):
    found = reason_to_give_up(history(*words.split()), restart=1, requeues=9)
    assert (found is None) == (reason is None)
    assert reason is None or reason in found


def test_retries_have_a_budget():
    assert reason_to_give_up([], restart=0, requeues=0) is None, "the first start is not a restart"
    assert reason_to_give_up([], restart=3, requeues=3) is None
    assert "allows 3 restarts" in reason_to_give_up([], restart=4, requeues=3)


@pytest.mark.parametrize(("ran", "minutes", "up"), [(18, 0.5, True), (100, 4, False), (190, 4, True), (3000, 57, True)])
def test_slurms_signal_for_the_time_limit_may_come_a_minute_early(ran, minutes, up):
    assert time_is_up(ran, 60 * minutes) == up


def test_hosts_that_broke_down_are_avoided_until_one_does_well():
    assert suspects([history("aab", "x")]) == ("a", "b")
    assert suspects([history("aab", "x", "aac", "4")]) == ("b",)
    assert suspects([history("aa", "3", "aa", "4")]) == ()
    assert suspects([history("aa", "x"), history("aa", "5")]) == ()
