"""When the next broadcast of a board may go: one a tick, without punishing the next for one that came late."""


def next_due(due: float, now: float, tick: float) -> float:
    """When the broadcast after one that goes at ``now`` (not before its own ``due``) may go. Times in seconds.

    After a quiet time (two ticks) that is a whole tick later. Where broadcasts follow each other, one that was late
    takes at most half a tick of it from the next, which so keeps its own time: in any span of n ticks there are at most
    n + 1.5. This is the virtual schedule of the generic cell rate algorithm (ITU-T I.371) with that tolerance.
    """
    begin = now if now >= due + 2 * tick else max(due, now - tick / 2)
    return begin + tick
