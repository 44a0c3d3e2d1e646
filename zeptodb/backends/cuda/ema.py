"""Exponential moving averages on the device: reduce tiles, carry from tile to tile, scan."""

from __future__ import annotations

import numpy as np

from zeptodb.backends.cuda.accumulate import TEAM
from zeptodb.backends.cuda.arguments import Argument
from zeptodb.backends.cuda.batch import allocate
from zeptodb.backends.cuda.driver import DeviceArray, Driver


def moving_averages(
    driver: Driver, argument: Argument, alpha: float, averages: DeviceArray, validity: DeviceArray | None
) -> None:
    """EMA of an argument, alpha below 1; 0 where that is NULL, which `validity` is to tell."""
    tiles, bounds = argument.tiles, argument.tile_bounds
    firsts = allocate(driver, argument.ranges)
    own, power = allocate(driver, tiles, np.float64), allocate(driver, tiles, np.float64)
    driver.launch("first_values", argument.ranges, (argument.words, firsts))
    driver.launch("reduce_averages", TEAM * tiles, (argument.words, firsts, bounds, tiles, alpha, own, power))
    driver.launch("carry_averages", TEAM * argument.ranges, (bounds, argument.ranges, own, power))
    driver.launch(
        "scan_averages", TEAM * tiles, (argument.words, firsts, bounds, tiles, alpha, own, averages, validity)
    )
