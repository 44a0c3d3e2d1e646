// Filter and gather: which rows of ranges pass a predicate, and their list.
//
// A row passes when the predicate is true; NULL is not. The list keeps the order of the ranges and of rows.

#include "tile.cuh"

// A team per tile from `first` on: masks[16 * tile + lane] gets one bit per row of the lane that passes, counts[tile]
// their number, flags[1] what is found in all. flags[0] becomes 1 when integer arithmetic left int64.
extern "C" __global__ void filter_tiles(
    const int64* column_words, const int64* program_words, const int64* predicate, const int64* segments,
    const int64* starts, const int64* ends, int64 ranges, const int64* tile_bounds, int64 first, int64 tiles,
    int64* masks, int64* counts, unsigned long long* flags
) {
    int64 item = thread_index() / TEAM + first;
    if (item >= first + tiles) return;
    Context<Team> context = {columns_at(column_words), program_at(program_words), team_of_thread()};
    bool overflows = false;
    int64 range, row, end;
    find_item(starts, ends, tile_bounds, ranges, item, range, row, end);
    Tile tile = {};
    tile.segment = segments[range];
    tile.row = row;
    tile.count = end - row;
    choose(context, operand_at(predicate), tile, overflows);
    int64 found = team_sum(context.team, (int64)__popcll(tile.chosen));
    masks[TEAM * item + context.team.lane] = (int64)tile.chosen;
    if (context.team.lane == 0) {
        counts[item] = found;
        if (found > 0) atomicAdd(flags + 1, (uint64)found);
    }
    if (overflows) atomicOr(flags, 1ULL);
}

// A team per tile writes the rows that passed to rows[sums[tile]]...
extern "C" __global__ void list_rows(
    const int64* starts, const int64* ends, int64 ranges, const int64* tile_bounds, int64 tiles, const int64* masks,
    const int64* sums, int64* rows
) {
    int64 item = thread_index() / TEAM;
    if (item >= tiles) return;
    Team team = team_of_thread();
    int64 range, row, end, place = sums[item];
    find_item(starts, ends, tile_bounds, ranges, item, range, row, end);
    uint64 chosen = (uint64)masks[TEAM * item + team.lane];
    for (int64 step = 0; row + step * TEAM < end && place < sums[item + 1]; ++step) {
        bool passes = (chosen >> step) & 1;
        unsigned passed = __ballot_sync(team.mask, passes) >> (team.mask == 0xFFFFu ? 0 : TEAM);
        if (passes) rows[place + __popc(passed & ((1u << team.lane) - 1))] = row + step * TEAM + team.lane;
        place += __popc(passed);
    }
}
