"""The specification, as scripts: `w` waits, `p` is a pivot, `r` and `s` only go on, the rest can be undone.

Sorted by what they show. docs/architecture.md tells why each is so.
"""

from tests.sagas.sample_app import saga as toys

SUCCESS = [
    (toys.ONE, "do a, completed"),
    (toys.LOCAL, "do a, do b, do c, completed"),
    (toys.REMOTE, "do a, do b, do c, completed"),
    (toys.MIXED, "do a, do b, do c, do d, completed"),
    (toys.LONG, "do a, do b, do c, do d, do e, do f, do g, do h, do i, do j, completed"),
    (toys.PIVOTAL, "do a, do p, do r, do s, completed"),
    (toys.LOCAL_PIVOT, "do a, do p, do r, completed"),
]

REFUSED_AT_EVERY_STEP = [
    (toys.ONE, "fail a, compensated"),
    (toys.LOCAL, "fail a, compensated"),
    (toys.LOCAL, "do a, fail b, undo a, compensated"),
    (toys.LOCAL, "do a, do b, fail c, undo b, undo a, compensated"),
    (toys.REMOTE, "fail a, undo a, compensated"),
    (toys.REMOTE, "do a, fail b, undo b, undo a, compensated"),
    (toys.REMOTE, "do a, do b, fail c, undo c, undo b, undo a, compensated"),
    (toys.MIXED, "do a, do b, do c, fail d, undo d, undo c, undo b, undo a, compensated"),
    (toys.LONG, "do a, do b, do c, do d, do e, do f, do g, do h, do i, fail j, undo i,"
                " undo h, undo g, undo f, undo e, undo d, undo c, undo b, undo a, compensated"),
]  # fmt: skip

A_BUG_IS_NOT_RETRIED = [
    (toys.LOCAL, "do a, break b, undo a, compensated"),
    (toys.REMOTE, "do a, break b, undo b, undo a, compensated"),
]

TRANSIENT_ERRORS_ARE_RETRIED_WITHIN_THE_BUDGET = [
    (toys.LOCAL, "do a, flake b, flake b, do b, do c, completed"),
    (toys.LOCAL, "do a, 3x flake b, undo a, compensated"),
    (toys.REMOTE, "flake a, do a, flake b, do b, flake c, flake c, do c, completed"),
    (toys.REMOTE, "do a, 3x flake b, undo b, undo a, compensated"),
    (toys.LOCAL, "do a, lose b, do b, do c, completed"),
    (toys.LOCAL, "do a, 3x lose b, undo a, compensated"),
    (toys.LOCAL, "do a, flake b, fail b, undo a, compensated"),
]

UNKNOWN_OUTCOMES_WITHOUT_ASK_ARE_TRIED_AGAIN_WITH_THE_SAME_KEY = [
    (toys.REMOTE, "do a, lose b, do b, do c, completed"),
    (toys.REMOTE, "do a, drop b, do b, do c, completed"),
    (toys.REMOTE, "do a, lose b, flake b, do b, do c, completed"),
    (toys.REMOTE, "do a, 3x lose b, undo b, undo a, compensated"),
    (toys.REMOTE, "do a, 3x drop b, undo b, undo a, compensated"),
    (toys.REMOTE, "do a, drop b, fail b, undo b, undo a, compensated"),
]

UNKNOWN_OUTCOMES_ARE_ASKED_ABOUT_FIRST = [
    (toys.MIXED, "do a, lose b, ask b, do c, do d, completed"),
    (toys.MIXED, "do a, drop b, miss ask b, do b, do c, do d, completed"),
    (toys.MIXED, "do a, lose b, flake ask b, ask b, do c, do d, completed"),
    (toys.MIXED, "do a, lose b, 2x flake ask b, undo b, undo a, compensated"),
    (toys.MIXED, "do a, lose b, break ask b, undo b, undo a, compensated"),
    (toys.MIXED, "do a, drop b, miss ask b, drop b, miss ask b, drop b, undo b, undo a, compensated"),
    (toys.MIXED, "do a, flake b, do b, do c, do d, completed"),
    (toys.MIXED, "do a, drop b, miss ask b, flake b, do b, do c, do d, completed"),
]

EVERY_UNDO_CAN_FAIL = [
    (toys.LOCAL, "do a, do b, fail c, flake undo b, undo b, 2x flake undo a, undo a, compensated"),
    (toys.LOCAL, "do a, do b, fail c, undo b, 4x flake undo a, needs attention, retry, undo a, compensated"),
    (toys.LOCAL, "do a, do b, fail c, fail undo b, needs attention, retry, undo b, undo a, compensated"),
    (toys.LOCAL, "do a, do b, fail c, undo b, fail undo a, needs attention, retry, undo a, compensated"),
    (toys.LOCAL, "do a, do b, fail c, undo b, fail undo a, needs attention, resolve a yes, compensated"),
    (toys.LOCAL, "do a, do b, fail c, break undo b, needs attention, retry, undo b, undo a, compensated"),
    (toys.REMOTE, "do a, fail b, lose undo b, undo b, drop undo a, undo a, compensated"),
    (toys.REMOTE, "do a, do b, fail c, fail undo c, needs attention, retry, fail undo c, needs attention,"
                  " resolve c yes, undo b, undo a, compensated"),
    (toys.REMOTE, "do a, do b, fail c, undo c, fail undo b, needs attention, resolve b no,"
                  " undo b, undo a, compensated"),
    (toys.REMOTE, "do a, fail b, 4x lose undo b, needs attention, retry, undo b, undo a, compensated"),
]  # fmt: skip

CANCELLED_AT_EVERY_BOUNDARY = [
    (toys.LOCAL, "cancel, compensated"),
    (toys.LOCAL, "do a, cancel, undo a, compensated"),
    (toys.LOCAL, "do a, do b, cancel, undo b, undo a, compensated"),
    (toys.LOCAL, "do a, do b, do c, completed, cancel, too late"),
    (toys.REMOTE, "do a, cancel, undo a, compensated"),
    (toys.REMOTE, "do a, flake b, cancel, undo b, undo a, compensated"),
    (toys.REMOTE, "do a, lose b, cancel, undo b, undo a, compensated"),
    (toys.LONG, "do a, do b, do c, do d, cancel, undo d, undo c, undo b, undo a, compensated"),
    (toys.LOCAL, "do a, do b, fail c, undo b, cancel, undo a, compensated, cancel, too late"),
]

CANCELLED_DURING_A_CALL = [
    (toys.REMOTE, "do a while cancelled, undo a, compensated"),
    (toys.REMOTE, "do a, do b, do c while cancelled, undo c, undo b, undo a, compensated"),
    (toys.REMOTE, "do a, flake b while cancelled, undo b, undo a, compensated"),
    (toys.REMOTE, "do a, lose b while cancelled, undo b, undo a, compensated"),
    (toys.REMOTE, "do a, fail b while cancelled, undo b, undo a, compensated"),
    (toys.WAIT, "do a, begin w while cancelled, undo w, undo a, compensated"),
    (toys.BLIND_WAIT, "do a, begin w while cancelled, undo w, undo a, compensated"),
]

THE_PIVOT = [
    (toys.PIVOTAL, "do a, cancel, undo a, compensated"),
    (toys.PIVOTAL, "do a, fail p, undo a, compensated"),
    (toys.PIVOTAL, "do a, 3x flake p, undo a, compensated"),
    (toys.PIVOTAL, "do a, do p, cancel, too late, do r, do s, completed"),
    (toys.PIVOTAL, "do a, lose p, cancel, too late, ask p, do r, do s, completed"),
    (toys.PIVOTAL, "do a, drop p, miss ask p, 2x flake p, undo a, compensated"),
    (toys.PIVOTAL, "do a, lose p, 2x flake ask p, needs attention, cancel, too late,"
                   " retry, ask p, do r, do s, completed"),
    (toys.PIVOTAL, "do a, lose p, 2x flake ask p, needs attention, resolve p no, undo a, compensated"),
    (toys.PIVOTAL, "do a, break p, needs attention, cancel, too late, resolve p yes, do r, do s, completed"),
    (toys.PIVOTAL, "do a, break p, needs attention, retry, miss ask p, do p, do r, do s, completed"),
    (toys.BLIND_PIVOT, "do a, lose p, 2x flake p, needs attention, resolve p yes, do r, completed"),
    (toys.BLIND_PIVOT, "do a, lose p, flake p, cancel, too late, do p, do r, completed"),
    (toys.LOCAL_PIVOT, "do a, break p, undo a, compensated"),
    (toys.LOCAL_PIVOT, "do a, 3x flake p, undo a, compensated"),
    (toys.PIVOT_WAIT, "do a, begin p, cancel, too late, tell p, do r, completed"),
    (toys.PIVOT_WAIT, "do a, begin p, tell p no, undo a, compensated"),
    (toys.PIVOT_WAIT, "do a, begin p, outwait p, needs attention, cancel, too late, resolve p yes,"
                      " do r, completed"),
    (toys.PIVOT_WAIT, "do a, begin p, outwait p, needs attention, resolve p no, undo a, compensated"),
    (toys.ASKED_PIVOT_WAIT, "do a, begin p, outwait p, flake ask p, needs attention, cancel, too late,"
                            " retry, ask p, do r, completed"),
    (toys.ASKED_PIVOT_WAIT, "do a, begin p, outwait p, miss ask p, undo a, compensated"),
]  # fmt: skip

WHAT_ONLY_GOES_ON = [
    (toys.PIVOTAL, "do a, do p, flake r, do r, do s, completed"),
    (toys.PIVOTAL, "do a, do p, 3x flake r, needs attention, retry, flake r, needs attention,"
                   " retry, do r, do s, completed"),
    (toys.PIVOTAL, "do a, do p, fail r, needs attention, retry, do r, do s, completed"),
    (toys.PIVOTAL, "do a, do p, do r, lose s, do s, completed"),
    (toys.PIVOTAL, "do a, do p, do r, break s, needs attention, resolve s yes, completed"),
    (toys.PIVOTAL, "do a, do p, do r, break s, needs attention, cancel, too late, resolve s no,"
                   " do s, completed"),
    (toys.FORWARD_ONLY, "do a, cancel, too late, do r, do s, completed"),
    (toys.LATE_WAIT, "do a, do p, begin r, cancel, too late, tell r, completed"),
    (toys.LATE_WAIT, "do a, do p, begin r, tell r no, needs attention, retry, do r, completed"),
    (toys.LATE_WAIT, "do a, do p, begin r, outwait r, begin ask r, needs attention, tell r no,"
                     " tell r, completed"),
]  # fmt: skip

WAITS = [
    (toys.WAIT, "do a, do w, do c, completed"),
    (toys.WAIT, "do a, begin w, tell w, do c, completed"),
    (toys.BLIND_WAIT, "do a, begin w, tell w, do c, completed"),
    (toys.LOCAL_WAIT, "do a, begin w, tell w, do c, completed"),
    (toys.WAIT, "do a, begin w, tell w no, undo w, undo a, compensated"),
    (toys.LOCAL_WAIT, "do a, begin w, tell w no, undo w, undo a, compensated"),
    (toys.WAIT, "do a, begin w, cancel, undo w, undo a, compensated"),
    (toys.BLIND_WAIT, "do a, begin w, cancel, undo w, undo a, compensated"),
    (toys.LOCAL_WAIT, "do a, begin w, cancel, undo w, undo a, compensated"),
    (toys.WAIT, "do a, begin w, tell w, fail c, undo w, undo a, compensated"),
]

WAITS_THAT_RUN_OUT = [
    (toys.BLIND_WAIT, "do a, begin w, outwait w, undo w, undo a, compensated"),
    (toys.LOCAL_WAIT, "do a, begin w, outwait w, undo w, undo a, compensated"),
    (toys.WAIT, "do a, begin w, outwait w, ask w, do c, completed"),
    (toys.WAIT, "do a, begin w, outwait w, begin ask w, undo w, undo a, compensated"),
    (toys.WAIT, "do a, begin w, outwait w, miss ask w, undo w, undo a, compensated"),
    (toys.WAIT, "do a, begin w, outwait w, flake ask w, undo w, undo a, compensated"),
]

POLLS = [
    (toys.WAIT, "do a, begin w, poll w, begin ask w, poll w, ask w, do c, completed"),
    (toys.WAIT, "do a, begin w, poll w, flake ask w, poll w, lose ask w, tell w, do c, completed"),
    (toys.WAIT, "do a, begin w, poll w, begin ask w, tell w, do c, completed"),
    (toys.WAIT, "do a, begin w, poll w, miss ask w, undo w, undo a, compensated"),
    (toys.WAIT, "do a, begin w, poll w, break ask w, tell w, do c, completed"),
    (toys.WAIT, "do a, begin w, outwait w, break ask w, undo w, undo a, compensated"),
]

EARLY_AND_LATE_CALLBACKS = [
    (toys.WAIT, "do a, begin w while told, do c, completed"),
    (toys.BLIND_WAIT, "do a, begin w while told, do c, completed"),
    (toys.BLIND_WAIT, "tell w, do a, begin w, do c, completed"),
    (toys.BLIND_WAIT, "tell w no, do a, begin w, undo w, undo a, compensated"),
    (toys.WAIT, "do a, do w while told, do c, completed"),
    (toys.BLIND_WAIT, "do a, begin w, tell w, tell w, do c, completed, tell w, tell w no"),
    (toys.BLIND_WAIT, "do a, begin w, cancel, undo w, undo a, compensated, tell w, undo w"),
    (toys.BLIND_WAIT, "do a, begin w, outwait w, undo w, undo a, compensated, tell w no"),
    (toys.WAIT, "do a, lose w, begin ask w, tell w, do c, completed"),
    (toys.WAIT, "do a, lose w while told, begin ask w, do c, completed"),
]

DEADLINES = [
    (toys.LOCAL, "do a, outlast, undo a, compensated"),
    (toys.REMOTE, "do a, flake b, outlast, undo b, undo a, compensated"),
    (toys.REMOTE, "do a, lose b, outlast, undo b, undo a, compensated"),
    (toys.WAIT, "do a, begin w, outlast, undo w, undo a, compensated"),
    (toys.PIVOTAL, "do a, lose p, outlast, needs attention, retry, ask p, do r, do s, completed"),
    (toys.PIVOTAL, "do a, do p, flake r, outlast, needs attention, retry, do r, do s, completed"),
    (toys.REMOTE, "do a, fail b, flake undo b, outlast, needs attention, retry, undo b, undo a, compensated"),
]

DONE_AT_ONCE = [
    (toys.AT_ONCE, "do a, [do b | do c], do d, completed"),
    (toys.AT_ONCE, "do a, [do b | do c], fail d, [undo b | undo c], undo a, compensated"),
    (toys.AT_ONCE, "do a, [2x flake b, do b | flake c, do c], do d, completed"),
    (toys.AT_ONCE_FIRST, "[do a | do b | do c], completed"),
    (toys.AT_ONCE_FIRST, "[do a | lose b, ask b | lose c, do c], completed"),
    (toys.AT_ONCE_FIRST, "[do a | drop b, miss ask b, do b | do c], completed"),
    (toys.AT_ONCE_TWICE, "[do a | do b], [do c | do d], do p, [do r | do s], completed"),
    (toys.AT_ONCE_TWICE, "[do a | do b], [do c | do d], fail p, [undo c | undo d], [undo a | undo b],"
                         " compensated"),
    (toys.AT_ONCE_TWICE, "[do a | do b], [do c | do d], fail p, [undo c | fail undo d], needs attention,"
                         " retry, undo d, [undo a | undo b], compensated"),
    (toys.AT_ONCE_TWICE, "[do a | do b], [do c | do d], fail p, [2x flake undo c, undo c | fail undo d],"
                         " needs attention, resolve d yes, [undo a | undo b], compensated"),
    (toys.AT_ONCE_WAIT, "do a, [begin w, tell w | do b | do c], do d, completed"),
    (toys.AT_ONCE_WAIT, "do a, [begin w, poll w, ask w | do b | do c], do d, completed"),
    (toys.AT_ONCE_WAIT, "do a, [begin w | do b | do c], tell w no, [undo w | undo b | undo c], undo a,"
                        " compensated"),
    (toys.AT_ONCE_WAIT, "do a, [begin w | do b | do c], cancel, [undo w | undo b | undo c], undo a,"
                        " compensated"),
    (toys.AT_ONCE_WAIT, "do a, [begin w | do b | do c], outlast, [undo w | undo b | undo c], undo a,"
                        " compensated"),
    (toys.AT_ONCE_WAIT, "do a, [begin w | do b | do c], outwait w, miss ask w, [undo w | undo b | undo c],"
                        " undo a, compensated"),
    (toys.AT_ONCE_WAIT, "do a, [begin w | do b | do c], cancel, [undo w | undo b | undo c], undo a,"
                        " compensated, tell w, undo w"),
]  # fmt: skip

ONE_OF_THEM_FAILS = [
    # Which of the others had begun by then depends on who was quicker: here the messages come in their order.
    (toys.AT_ONCE, "do a, fail b, undo b, undo a, compensated"),
    (toys.AT_ONCE, "do a, [do b | fail c], undo b, undo a, compensated"),
    (toys.AT_ONCE, "do a, [do b | break c], undo b, undo a, compensated"),
    (toys.AT_ONCE, "do a, [do b | 3x flake c], undo b, undo a, compensated"),
    (toys.AT_ONCE, "do a, [lose b | fail c], undo b, undo a, compensated"),
    (toys.AT_ONCE, "do a, [flake b | fail c], undo b, undo a, compensated"),
    (toys.AT_ONCE_FIRST, "[do a | fail b], [undo a | undo b], compensated"),
    (toys.AT_ONCE_FIRST, "[do a | do b | fail c], [undo a | undo b | undo c], compensated"),
    (toys.AT_ONCE_FIRST, "[do a | do b | fail c], [undo a | fail undo b | undo c], needs attention, retry,"
                         " undo b, compensated"),
    (toys.AT_ONCE_FIRST, "[do a | do b | fail c], [fail undo a | fail undo b | undo c], needs attention,"
                         " resolve a yes, needs attention, resolve b yes, compensated"),
    (toys.AT_ONCE_FIRST, "[do a | do b while cancelled], [undo a | undo b], compensated"),
    (toys.AT_ONCE_FIRST, "cancel, compensated"),
    (toys.AT_ONCE_REVERSE, "[do a | do b | do c], fail d, undo c, undo b, undo a, compensated"),
    (toys.AT_ONCE_REVERSE, "[do a | do b | do c], fail d, undo c, flake undo b, undo b, undo a, compensated"),
    (toys.AT_ONCE_REVERSE, "[do a | do b | do c], fail d, undo c, fail undo b, undo a, needs attention,"
                           " retry, undo b, compensated"),
    (toys.AT_ONCE_REVERSE, "[do a | fail b], undo a, compensated"),
    (toys.AT_ONCE_WAIT, "do a, [begin w | do b | fail c], [undo w | undo b | undo c], undo a, compensated"),
    (toys.AT_ONCE_WAIT, "do a, [begin w | fail b], undo w, undo a, compensated, tell w, undo w"),
    (toys.AT_ONCE_TWICE, "[do a | do b], [do c | do d], do p, [do r | fail s], needs attention, retry, do s,"
                         " completed"),
    (toys.AT_ONCE_TWICE, "[do a | do b], [do c | do d], do p, fail r, needs attention, retry, [do r | do s],"
                         " completed"),
    (toys.AT_ONCE_TWICE, "[do a | do b], [do c | do d], do p, fail r, needs attention, resolve r yes, do s,"
                         " completed"),
    (toys.AT_ONCE_TWICE, "[do a | do b], [do c | fail d], undo c, [undo a | undo b], compensated"),
]  # fmt: skip

CONDITIONS = [
    (toys.CHOICE, {"yes": True}, "do a, do b, do d, completed"),
    (toys.CHOICE, {"yes": False}, "do a, do c, do d, completed"),
    (toys.CHOICE, {"yes": False}, "do a, fail c, undo c, undo a, compensated"),
    (toys.CHOICE, {"yes": True}, "do a, do b, fail d, undo b, undo a, compensated"),
    (toys.CHOICE, {"yes": False}, "do a, do c, fail d, undo c, undo a, compensated"),
    (toys.CHOICE, {"yes": True}, "cancel, compensated"),
    (toys.ALL_LEFT_OUT, {"yes": False}, "completed"),
    (toys.ALL_LEFT_OUT, {"yes": True}, "do a, completed"),
    (toys.AT_ONCE_CHOICE, {"yes": True}, "[do a | do b], [do d | do e], do f, completed"),
    (toys.AT_ONCE_CHOICE, {"yes": False}, "[do b | do c], do f, completed"),
    (toys.AT_ONCE_CHOICE, {"yes": False}, "[do b | do c], fail f, undo f, [undo b | undo c], compensated"),
    (toys.AT_ONCE_CHOICE, {"yes": True}, "[do a | do b], [do d | do e], fail f, undo f, [undo d | undo e],"
                                         " [undo a | undo b], compensated"),
]  # fmt: skip

TWO, THREE = ({"parcels": ["p"] * count} for count in (2, 3))

CHILDREN = [
    (toys.EACH, TWO, "do a, deliver{do x, do y | do x, do y}, do z, completed"),
    (toys.EACH, {"parcels": []}, "do a, deliver{}, do z, completed"),
    (toys.EACH, TWO, "do a, deliver{do x, flake y, do y | do x, lose y, do y}, do z, completed"),
    (toys.EACH, TWO, "do a, deliver{do x, do y, undo y, undo x | do x, fail y, undo y, undo x}, undo a,"
                     " compensated"),
    (toys.EACH, TWO, "do a, deliver{do x, do y | do x, do y}, fail z,"
                     " deliver{undo y, undo x | undo y, flake undo x, undo x}, undo a, compensated"),
    (toys.EACH, TWO, "cancel, compensated"),
    (toys.EACH_IN_TURN, THREE, "do a, deliver{do x, do y | do x, do y | do x, do y}, do z, completed"),
    (toys.EACH_IN_TURN, THREE, "do a, deliver{do x, do y, undo y, undo x | fail x | }, undo a, compensated"),
    (toys.EACH_IN_TURN, TWO, "do a, deliver{do x, fail y, fail undo y | }, needs attention, retry deliver.0,"
                             " undo deliver.0.y, undo deliver.0.x, undo a, compensated"),
    (toys.EACH_IN_TURN, TWO, "do a, deliver{do x, fail y, fail undo y | }, needs attention,"
                             " resolve deliver.0.y yes, undo deliver.0.x, undo a, compensated"),
    (toys.EACH_KEPT, THREE, "do a, deliver{do x, do y | do x, fail y, undo y, undo x | do x, do y}, do z,"
                            " completed"),
    (toys.EACH_KEPT, TWO, "do a, deliver{fail x | fail x}, do z, completed"),
    (toys.TWO_OF_THEM, THREE, "do a, deliver{do x, do y | do x, do y | }, do z, completed"),
    (toys.TWO_OF_THEM, THREE, "do a, deliver{do x, do y | fail x | do x, do y}, do z, completed"),
    (toys.TWO_OF_THEM, THREE, "do a, deliver{fail x | fail x | }, undo a, compensated"),
    (toys.EACH_WAITS, TWO, "do a, deliver{do x, begin y | do x, begin y}, tell deliver.1.y,"
                           " tell deliver.0.y, do z, completed"),
    (toys.EACH_WAITS, TWO, "do a, deliver{do x, begin y, tell y | do x, do y}, do z, completed"),
    (toys.EACH_WAITS, TWO, "do a, deliver{do x, begin y | do x, begin y}, tell deliver.1.y no,"
                           " deliver{undo y, undo x | undo y, undo x}, undo a, compensated"),
    (toys.EACH_WAITS, TWO, "do a, deliver{do x, begin y | do x, begin y}, cancel,"
                           " deliver{undo y, undo x | undo y, undo x}, undo a, compensated"),
    (toys.EACH_WAITS, TWO, "do a, deliver{do x, begin y | do x, do y}, cancel deliver.1, too late,"
                           " cancel deliver.0, deliver{undo y, undo x | undo y, undo x}, undo a,"
                           " compensated"),
    (toys.EACH_WAITS, TWO, "do a, deliver{do x, begin y | do x, begin y}, outlast deliver.0,"
                           " deliver{undo y, undo x | undo y, undo x}, undo a, compensated"),
    (toys.EACH_WAITS, TWO, "do a, deliver{do x, begin y | do x, begin y}, outlast,"
                           " deliver{undo y, undo x | undo y, undo x}, undo a, compensated"),
    (toys.EACH_WAITS, TWO, "do a, deliver{do x, begin y | do x, do y}, outwait deliver.0.y,"
                           " deliver{undo y, undo x | undo y, undo x}, undo a, compensated"),
    (toys.ONE_CHILD, {}, "do a, c{do i, do j}, do z, completed"),
    (toys.ONE_CHILD, {}, "do a, c{do i, fail j, undo j, undo i}, undo a, compensated"),
    (toys.ONE_CHILD, {}, "do a, c{do i, do j while cancelled, undo j, undo i}, undo a, compensated"),
    (toys.GRANDCHILDREN, TWO, "do a, deliver{do o, c{do i, do j} | do o, c{do i, do j}}, do z, completed"),
    (toys.GRANDCHILDREN, TWO, "do a, deliver{do o, c{do i, do j} | do o, c{do i, do j}}, fail z,"
                              " deliver{c{undo j, undo i}, undo o | c{undo j, undo i}, undo o}, undo a,"
                              " compensated"),
    (toys.CHILDREN_BESIDE, TWO, "[deliver{do x, do y | do x, do y} | do b], do z, completed"),
    (toys.CHILDREN_BESIDE, TWO, "[deliver{do x, do y | do x, do y} | do b], fail z,"
                                " [deliver{undo y, undo x | undo y, undo x} | undo b], compensated"),
    (toys.CHILDREN_LAST, TWO, "do a, do p, deliver{do x, do y | do x, do y}, completed, cancel, too late"),
    (toys.CHILDREN_LAST, TWO, "do a, do p, deliver{do x, do y | do x, fail y, undo y, undo x},"
                              " needs attention, resolve deliver yes, completed"),
]  # fmt: skip

ALL = [
    *SUCCESS,
    *REFUSED_AT_EVERY_STEP,
    *A_BUG_IS_NOT_RETRIED,
    *TRANSIENT_ERRORS_ARE_RETRIED_WITHIN_THE_BUDGET,
    *UNKNOWN_OUTCOMES_WITHOUT_ASK_ARE_TRIED_AGAIN_WITH_THE_SAME_KEY,
    *UNKNOWN_OUTCOMES_ARE_ASKED_ABOUT_FIRST,
    *EVERY_UNDO_CAN_FAIL,
    *CANCELLED_AT_EVERY_BOUNDARY,
    *CANCELLED_DURING_A_CALL,
    *THE_PIVOT,
    *WHAT_ONLY_GOES_ON,
    *WAITS,
    *WAITS_THAT_RUN_OUT,
    *POLLS,
    *EARLY_AND_LATE_CALLBACKS,
    *DEADLINES,
    *DONE_AT_ONCE,
]
