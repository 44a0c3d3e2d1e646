// Exponential moving averages: e = alpha x + decay e before, reduced tile by tile, then scanned.
//
// Rows are maps of the average before to the one after; maps of rows that follow one another make one map. The first
// value of a range is its average, whatever was before. A NULL changes nothing and has the average NULL, stored as 0. From the first
// infinity on the average is infinite; from the first NaN, or an infinity of the other sign, NaN.

#include "window.cuh"

// The average after some rows is own + power * the one before them.
struct Average {
    double own;
    double power;
};

// power may be as small as 0, yet what is infinite or NaN stays so.
__device__ inline double carried(double own, double power, double before) {
    return is_finite(before) ? own + power * before : own + before;
}

__device__ inline Average then(const Average& before, const Average& after) {
    Average both = {carried(after.own, after.power, before.own), before.power * after.power};
    return both;
}

__device__ inline Average from_lane(const Team& team, const Average& average, int lane) {
    Average other = {from_lane(team, average.own, lane), from_lane(team, average.power, lane)};
    return other;
}

// Each lane's average after those of the lanes before it.
__device__ inline Average scanned(const Team& team, Average average) {
    for (int distance = 1; distance < TEAM; distance *= 2) {
        Average other = from_lane(team, average, greatest_of(team.lane - distance, 0));
        if (team.lane >= distance) average = then(other, average);
    }
    return average;
}

__device__ inline Average average_of_row(
    const Argument& argument, int64 first, double alpha, int64 range, int64 row, int64 end
) {
    Average average = {0.0, 1.0};
    if (row >= end || !is_valid_at(argument, range, row)) return average;
    double x = float_at(argument, range, row);
    average.own = row == first ? x : alpha * x;
    average.power = row == first ? 0.0 : 1.0 - alpha;
    return average;
}

// firsts[k] = the first row of range k that is not NULL, else its length. A thread per range.
extern "C" __global__ void first_values(const int64* argument_words, int64* firsts) {
    Argument argument = argument_at(argument_words);
    int64 range = thread_index();
    if (range >= argument.ranges) return;
    int64 row = 0;
    while (row < argument.lengths[range] && !is_valid_at(argument, range, row)) ++row;
    firsts[range] = row;
}

// What each tile leaves by itself, and what of the average before it. A team per tile.
extern "C" __global__ void reduce_averages(
    const int64* argument_words, const int64* firsts, const int64* tile_bounds, int64 tiles, double alpha, double* own,
    double* power
) {
    int64 tile = thread_index() / TEAM;
    if (tile >= tiles) return;
    Argument argument = argument_at(argument_words);
    Team team = team_of_thread();
    int64 range = part_of(tile_bounds, argument.ranges, tile), row = (tile - tile_bounds[range]) * TILE_ROWS;
    int64 end = least_of(argument.lengths[range], row + TILE_ROWS);
    Average total = {0.0, 1.0};
    for (; row < end; row += TEAM) {
        Average average = average_of_row(argument, firsts[range], alpha, range, row + team.lane, end);
        total = then(total, from_lane(team, scanned(team, average), TEAM - 1));
    }
    if (team.lane == 0) {
        own[tile] = total.own;
        power[tile] = total.power;
    }
}

// own[tile] becomes the average before the tile. A team per range.
extern "C" __global__ void carry_averages(
    const int64* tile_bounds, int64 ranges, double* own, const double* power
) {
    int64 range = thread_index() / TEAM;
    if (range >= ranges) return;
    Team team = team_of_thread();
    int64 after = tile_bounds[range + 1];
    double before = 0.0;
    for (int64 first = tile_bounds[range]; first < after; first += TEAM) {
        int64 tile = first + team.lane;
        Average average = {0.0, 1.0};
        if (tile < after) {
            average.own = own[tile];
            average.power = power[tile];
        }
        average = scanned(team, average);
        double last = carried(average.own, average.power, before);
        double previous = from_lane(team, last, greatest_of(team.lane - 1, 0));
        if (tile < after) own[tile] = team.lane == 0 ? before : previous;
        before = from_lane(team, last, TEAM - 1);
    }
}

// The average after each row, from that before its tile, and whether it is not NULL. A team per tile.
extern "C" __global__ void scan_averages(
    const int64* argument_words, const int64* firsts, const int64* tile_bounds, int64 tiles, double alpha,
    const double* own, double* averages, unsigned char* validity
) {
    int64 tile = thread_index() / TEAM;
    if (tile >= tiles) return;
    Argument argument = argument_at(argument_words);
    Team team = team_of_thread();
    int64 range = part_of(tile_bounds, argument.ranges, tile), row = (tile - tile_bounds[range]) * TILE_ROWS;
    int64 end = least_of(argument.lengths[range], row + TILE_ROWS);
    double before = own[tile];
    for (; row < end; row += TEAM) {
        int64 place = row + team.lane;
        Average average = scanned(team, average_of_row(argument, firsts[range], alpha, range, place, end));
        double last = carried(average.own, average.power, before);
        if (place < end) {
            bool is_valid = is_valid_at(argument, range, place);
            averages[argument.bounds[range] + place] = is_valid ? last : 0.0;
            if (validity != nullptr) validity[argument.bounds[range] + place] = is_valid;
        }
        before = from_lane(team, last, TEAM - 1);
    }
}
