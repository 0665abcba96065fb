"""Whose turn it is where several batches are worked through at once."""

from __future__ import annotations

import asyncio

from blackbox_diff.run.turns import Turns


async def _works(turns: Turns, ranks: list[int]) -> tuple[int, list[tuple[int, int]]]:
    """Start a work of each rank, in this order: the most that were done at once, and (rank, number) in turn."""
    done: list[tuple[int, int]] = []
    most = now = 0

    async def work(rank: int, number: int) -> None:
        nonlocal most, now
        async with turns.turn(rank):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            done.append((rank, number))
            now -= 1

    await asyncio.gather(*(work(rank, number) for number, rank in enumerate(ranks)))
    return most, done


def test_the_lowest_rank_goes_first_in_order_of_arrival_and_no_more_at_once_than_there_is_room_for() -> None:
    most, done = asyncio.run(_works(Turns(2), [2, 2, 2, 1, 2, 0, 1]))
    assert most == 2
    assert done[:2] == [(2, 0), (2, 1)]  # had their turns before anybody waited
    assert done[2:] == [(0, 5), (1, 3), (1, 6), (2, 2), (2, 4)]


def test_a_turn_is_not_lost_with_a_work_that_is_cancelled_while_it_waits_or_once_it_is_given() -> None:
    async def run() -> None:
        turns, held = Turns(1), asyncio.Event()

        async def work() -> None:
            async with turns.turn(0):
                await held.wait()

        async def first() -> None:
            await work()
            given.cancel()  # its turn was passed on to this one, which had no chance to run

        begun = asyncio.create_task(first())
        waits, given, last = (asyncio.create_task(work()) for _ in range(3))
        await asyncio.sleep(0)
        waits.cancel()
        held.set()
        await begun
        await asyncio.wait_for(last, 5)
        assert waits.cancelled()
        assert given.cancelled()

    asyncio.run(run())


def test_a_turn_comes_back_from_a_work_that_fails() -> None:
    async def run() -> None:
        turns = Turns(1)
        for _ in range(2):
            try:
                async with turns.turn(0):
                    raise ValueError
            except ValueError:
                pass
        async with asyncio.timeout(5), turns.turn(0):
            pass

    asyncio.run(run())
