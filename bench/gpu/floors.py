"""The least time that an operation can take: the bytes that it must move, at the rate of the device's memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes per second of the device's memory, those read and those written counted.

    Attributes:
        copied: of a large copy within the device, measured in the same process.
        nominal: of the data sheet: memory clock x bus width; None where the device does not tell.
    """

    copied: float
    nominal: float | None


def nominal_rate(clock_khz: int, bus_bits: int) -> float:
    """Bytes per second of memory that moves data twice a clock."""
    return 2 * clock_khz * 1e3 * bus_bits / 8


def against_floor(*, row_bytes: float, rows: int, seconds: float, rates: Rates) -> dict[str, float | None]:
    """Bytes per second, the floor, and the share of it that was reached: 1 is the floor itself, 0.5 twice its time."""
    moved = row_bytes * rows
    floor = moved / rates.copied
    nominal = None if rates.nominal is None else moved / rates.nominal
    return {
        "bytes_per_second": moved / seconds,
        "floor_seconds": floor,
        "share_of_floor": floor / seconds,
        "nominal_floor_seconds": nominal,
        "share_of_nominal_floor": None if nominal is None else nominal / seconds,
    }
