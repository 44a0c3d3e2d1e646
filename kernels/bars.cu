// Where time buckets begin: ranges of rows into bars, by galloping over the sorted times.
//
// A bucket's start is the floor of the time to origin plus a multiple of the width, also before 1970 and never below
// the least int64. Equal times share a bar; a range without rows has none.

#include "device.cuh"

// As first_at_or_after, at a cost of the logarithm of how far the place is from `low`.
__device__ inline int64 gallop(const int64* times, int64 low, int64 high, int64 sought) {
    int64 step = 1;
    while (low + step < high && times[low + step - 1] < sought) {
        low += step;
        step *= 2;
    }
    return first_at_or_after(times, low, low + step < high ? low + step - 1 : high, sought);
}

// The row after the bar that begins at `start` (ns), `low` being a row of it or the first after it.
__device__ inline int64 end_of_bar(const int64* times, int64 low, int64 last, int64 start, int64 width) {
    return start <= INT64_MAX_VALUE - width ? gallop(times, low, last, start + width) : last;
}

// Each tile of the ranges finds the bars that begin in it; one that runs on beyond the tile is still its own. A thread
// takes a tile. counts[tile] becomes how many there are, or, with `places` (bars before each tile), they are written.
// flags[0] becomes 1 when a bar has more than `most_rows` rows. `time_row` holds the address of each segment's times.
extern "C" __global__ void find_bars(
    const int64* time_row, const int64* segments, const int64* starts, const int64* ends, int64 ranges,
    const int64* tile_bounds, int64 tiles, int64 width, int64 origin, int64 most_rows, int64* counts,
    const int64* places, int64* bar_segments, int64* bar_starts, int64* bar_ends, int64* buckets,
    unsigned long long* flags
) {
    int64 tile = thread_index();
    if (tile >= tiles) return;
    int64 range, row, end;
    find_item(starts, ends, tile_bounds, ranges, tile, range, row, end);
    int64 segment = segments[range], last = ends[range], found = 0;
    const int64* times = at<const int64>(time_row[segment], last);
    if (row > starts[range]) {
        row = end_of_bar(times, row, last, floor_to(times[row - 1], width, origin), width);
    }
    bool is_long = false;
    while (row < end) {
        int64 start = floor_to(times[row], width, origin);
        int64 after = end_of_bar(times, row + 1, last, start, width);
        is_long |= after - row > most_rows;
        if (places != nullptr) {
            int64 place = places[tile] + found;
            bar_segments[place] = segment;
            bar_starts[place] = row;
            bar_ends[place] = after;
            buckets[place] = start;
        }
        ++found;
        row = after;
    }
    if (places == nullptr) counts[tile] = found;
    if (is_long) atomicOr(flags, 1ULL);
}
