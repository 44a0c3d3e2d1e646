"""Things with equal keys side by side: their order, and where each group begins."""

from __future__ import annotations

from dataclasses import dataclass

from zeptodb.backends.cuda.batch import allocate, read_word
from zeptodb.backends.cuda.driver import DeviceArray, Driver


@dataclass(frozen=True, slots=True)
class KeyGroups:
    """Groups by ascending key.

    Attributes:
        count: how many.
        order: places of the keys, group by group, equal ones in their order; None: they lie so already.
        bounds: group g is order[bounds[g]:bounds[g + 1]].
        keys: of each group.
    """

    count: int
    order: DeviceArray | None
    bounds: DeviceArray
    keys: DeviceArray


def group_by_key(driver: Driver, keys: DeviceArray, *, order: DeviceArray | None, is_sorted: bool = False) -> KeyGroups:
    """Group int64 keys; with `order` they are taken in that order first."""
    count = len(keys)
    if not is_sorted:
        taken = keys if order is None else gathered(driver, keys, order)
        sorting = allocate(driver, count)
        driver.sorted_order(taken, sorting)
        order = sorting if order is None else gathered(driver, order, sorting)
    changes, sums = allocate(driver, count), allocate(driver, count + 1)
    driver.launch("mark_changes", count, (keys, order, count, changes))
    driver.prefix_sums(changes, sums)
    groups = read_word(driver, sums, count)
    bounds, group_keys = allocate(driver, groups + 1), allocate(driver, groups)
    driver.launch("bound_groups", count, (keys, order, count, changes, sums, groups, bounds, group_keys))
    return KeyGroups(groups, order, bounds, group_keys)


def gathered(driver: Driver, source: DeviceArray, order: DeviceArray) -> DeviceArray:
    """source[order], of int64."""
    out = allocate(driver, len(order))
    if len(order):
        driver.launch("gather_words", len(order), (source, order, len(order), out))
    return out
