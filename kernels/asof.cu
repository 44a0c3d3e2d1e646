// The as-of join: for each left row the row of the right segment that is nearest in time.
//
// Of equal right times the last arrived is taken. No right row, or none within the tolerance, gives -1.

#include "device.cuh"

enum { AT_OR_BEFORE = 0, BEFORE = 1, AT_OR_AFTER = 2, AFTER = 3 };

// The first row in [low, high) whose time is above `sought`, else high.
__device__ inline int64 first_after(const int64* times, int64 low, int64 high, int64 sought) {
    return sought == INT64_MAX_VALUE ? high : first_at_or_after(times, low, high, sought + 1);
}

// Whether later - earlier <= tolerance, also where the difference leaves int64.
__device__ inline bool is_within(int64 later, int64 earlier, int64 tolerance) {
    int64 difference = (int64)((uint64)later - (uint64)earlier);
    return difference >= 0 && difference <= tolerance;
}

// The left row at a place: listed, or counted from its part's start.
__device__ inline int64 left_row_at(
    const int64* listed, const int64* starts, const int64* bounds, int64 part, int64 place
) {
    return listed != nullptr ? listed[place] : starts[part] + place - bounds[part];
}

// matches[place] for the left rows at all places, a team for each tile of places. Part k has the places bounds[k] to
// bounds[k + 1], lies in segments[k] and is matched with right_segments[k] (-1: none). Neighbours find their matches near
// to one another, so each tile within one part narrows its search first. `tolerance` -1: any distance. masks and counts
// say which places have a match, as in select.cu; flags[0] becomes how many have none.
extern "C" __global__ void match_rows(
    const int64* left_times, const int64* segments, const int64* starts, const int64* bounds, int64 parts,
    const int64* listed, const int64* right_times, const int64* right_segments, const int64* right_lengths, int64 op,
    int64 tolerance, int64 total, int64* matches, int64* masks, int64* counts, unsigned long long* flags
) {
    int64 tile = thread_index() / TEAM, first = tile * TILE_ROWS;
    if (first >= total) return;
    Team team = team_of_thread();
    int64 end = least_of(total, first + TILE_ROWS), part = part_of(bounds, parts, first);
    bool is_one_part = bounds[part + 1] >= end, is_inclusive = op == BEFORE || op == AT_OR_AFTER;
    int64 low = 0, high = -1;
    if (is_one_part && right_segments[part] >= 0) {
        int64 length = right_lengths[right_segments[part]];
        const int64* times = at<const int64>(left_times[segments[part]], 1);
        const int64* others = at<const int64>(right_times[right_segments[part]], length);
        int64 earliest = times[left_row_at(listed, starts, bounds, part, first)];
        int64 latest = times[left_row_at(listed, starts, bounds, part, end - 1)];
        low = first_at_or_after(others, 0, length, earliest);
        high = first_after(others, low, length, latest);
    }
    uint64 matched = 0;
    int64 step = 0, found_in_all = 0;
    for (int64 place = first + team.lane; place < end; place += TEAM, ++step) {
        if (!is_one_part) {
            part = part_of(bounds, parts, place);
            low = 0;
            high = -1;
        }
        int64 other = right_segments[part], found = -1;
        if (other >= 0) {
            int64 length = right_lengths[other];
            const int64* others = at<const int64>(right_times[other], length);
            int64 sought = at<const int64>(left_times[segments[part]], 1)[left_row_at(listed, starts, bounds, part, place)];
            int64 stop = high < 0 ? length : high;
            int64 cursor = is_inclusive ? first_at_or_after(others, low, stop, sought) : first_after(others, low, stop, sought);
            if (op <= BEFORE) found = cursor - 1;
            else if (cursor < length) found = first_after(others, cursor, length, others[cursor]) - 1;
            if (found >= 0 && tolerance >= 0) {
                bool is_near = op <= BEFORE ? is_within(sought, others[found], tolerance) : is_within(others[found], sought, tolerance);
                if (!is_near) found = -1;
            }
        }
        matches[place] = found;
        if (found >= 0) {
            matched |= 1ULL << step;
            ++found_in_all;
        }
    }
    masks[TEAM * tile + team.lane] = (int64)matched;
    for (int distance = TEAM / 2; distance > 0; distance >>= 1) found_in_all += down(team, found_in_all, distance);
    if (team.lane == 0) {
        counts[tile] = found_in_all;
        if (found_in_all < end - first) atomicAdd(flags, (uint64)(end - first - found_in_all));
    }
}

// Close up the places whose bit in masks is set: their left rows and their matches, a team for each tile of places.
extern "C" __global__ void close_up(
    const int64* starts, const int64* bounds, int64 parts, const int64* listed, const int64* matches, int64 total,
    const int64* masks, const int64* sums, int64* kept_rows, int64* kept_matches
) {
    int64 tile = thread_index() / TEAM, first = tile * TILE_ROWS;
    if (first >= total) return;
    Team team = team_of_thread();
    int64 end = least_of(total, first + TILE_ROWS), out = sums[tile];
    uint64 chosen = (uint64)masks[TEAM * tile + team.lane];
    for (int64 step = 0; first + step * TEAM < end; ++step) {
        bool passes = (chosen >> step) & 1;
        unsigned passed = __ballot_sync(team.mask, passes) >> (team.mask == 0xFFFFu ? 0 : TEAM);
        if (passes) {
            int64 place = first + step * TEAM + team.lane, part = part_of(bounds, parts, place);
            int64 to = out + __popc(passed & ((1u << team.lane) - 1));
            kept_rows[to] = left_row_at(listed, starts, bounds, part, place);
            kept_matches[to] = matches[place];
        }
        out += __popc(passed);
    }
}

// kept_bounds[k] = how many places before bounds[k] have their bit in masks set. A thread per bound.
extern "C" __global__ void count_kept(
    const int64* bounds, int64 parts, const int64* masks, const int64* sums, int64 tiles, int64* kept_bounds
) {
    int64 k = thread_index();
    if (k > parts) return;
    int64 tile = bounds[k] / TILE_ROWS, rest = bounds[k] % TILE_ROWS, kept = sums[least_of(tile, tiles)];
    for (int64 lane = 0; tile < tiles && lane < TEAM; ++lane) {
        int64 elements = rest / TEAM + (lane < rest % TEAM);
        uint64 before = elements >= 64 ? ~0ULL : (1ULL << elements) - 1;
        kept += __popcll((uint64)masks[TEAM * tile + lane] & before);
    }
    kept_bounds[k] = kept;
}
