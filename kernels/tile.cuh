// One tile, turned by a team (or by one thread, when the rows are few) into what its rows add to a state.
//
// Element i of the tile goes to lane i mod 16, lanes are folded in halves, and what is left at the end of the tile
// follows one by one: the order of additions of the CPU's kernels (zeptodb/backends/cpu/lanes.py), whoever works.
// Elements that are left out (by a predicate, or because they are NULL) keep their lane empty. Results stand in lane 0.
#pragma once

#include "expression.cuh"
#include "states.cuh"

// Rows `row` to `row + count` of a segment, at most 1,024. Where `rows` is not null they are rows[0], rows[1], ... of
// `segments`[0], ... instead. Bit s of `chosen` says whether this lane's element s * LANES + lane counts.
struct Tile {
    int64 segment;
    int64 row;
    int64 count;
    const int64* segments;
    const int64* rows;
    uint64 chosen;
    bool is_whole;

    __device__ int64 segment_of(int64 i) const { return rows == nullptr ? segment : segments[i]; }
    __device__ int64 row_of(int64 i) const { return rows == nullptr ? row + i : rows[i]; }
};

template <typename Workers>
struct Context {
    Columns columns;
    Program program;
    Workers team;
};

template <typename Workers>
__device__ inline int64 team_sum(const Workers& team, int64 value) {
    for (int distance = Workers::LANES / 2; distance > 0; distance >>= 1) value += down(team, value, distance);
    return value;
}

template <typename Workers>
__device__ inline uint64 all_of_lane(const Workers& team, int64 count) {
    int64 elements = count / Workers::LANES + (team.lane < count % Workers::LANES);
    return elements >= 64 ? ~0ULL : (1ULL << elements) - 1;
}

// Which of the tile's rows pass the predicate in a register of a section.
template <typename Workers>
__device__ inline void choose(
    const Context<Workers>& context, const Operand& predicate, Tile& tile, bool& overflows
) {
    tile.chosen = all_of_lane(context.team, tile.count);
    tile.is_whole = true;
    if (predicate.kind == NOTHING) return;
    uint64 passed = 0;
    int64 step = 0;
    for (int64 i = context.team.lane; i < tile.count; i += Workers::LANES, ++step) {
        Value value = operand_value(
            context.program, predicate, context.columns, tile.segment_of(i), tile.row_of(i), overflows
        );
        if (value.is_valid && value.bits != 0) passed |= 1ULL << step;
    }
    tile.chosen = passed;
    tile.is_whole = false;
}

// ---- sources of elements -------------------------------------------------------------------------------------------

// Values that lie side by side, none NULL and all chosen.
struct PlainDoubles {
    const double* left;
    __device__ double value(int64 i, bool&) const { return left[i]; }
};

template <typename L, typename R>
struct PlainProducts {
    const L* left;
    const R* right;
    __device__ double value(int64 i, bool&) const { return (double)left[i] * (double)right[i]; }
};

// Anything else: operands of any kind, rows left out.
template <typename Workers>
struct AnyElements {
    const Context<Workers>& context;
    const Tile& tile;
    Operand left;
    Operand right;
    int64 opcode;
    bool& overflows;

    __device__ bool pair(int64 i, int64& a, int64& b) const {
        if (!((tile.chosen >> (i / Workers::LANES)) & 1)) return false;
        int64 segment = tile.segment_of(i), row = tile.row_of(i);
        Value first = operand_value(context.program, left, context.columns, segment, row, overflows);
        a = first.bits;
        if (right.kind == NOTHING) return first.is_valid;
        Value second = operand_value(context.program, right, context.columns, segment, row, overflows);
        b = second.bits;
        return first.is_valid && second.is_valid;
    }

    __device__ double value(int64 i, bool& is_taken) const {
        int64 a = 0, b = 0;
        is_taken = pair(i, a, b);
        if (!is_taken) return 0.0;
        if (right.kind == NOTHING) return as_double(a);
        double x = opcode == DOT_INT_INT || opcode == DOT_INT_FLOAT ? (double)a : as_double(a);
        double y = opcode == DOT_INT_INT || opcode == DOT_FLOAT_INT ? (double)b : as_double(b);
        return x * y;
    }
};

// ---- reductions ----------------------------------------------------------------------------------------------------

__device__ inline void add_rest(const Team& team, double& total, double value, bool is_taken, int64 rest) {
    unsigned taken = __ballot_sync(team.mask, is_taken) >> (team.mask == 0xFFFFu ? 0 : TEAM);
    for (int j = 0; j < rest; ++j) {
        double next = from_lane(team, value, j);
        if ((taken >> j) & 1u) total += next;
    }
}

// The sum of the elements, in lane 0; `taken` becomes how many this lane has taken.
template <typename Source>
__device__ inline double sum_of(const Team& team, const Source& source, int64 count, int64& taken) {
    double total = 0.0;
    int64 steps = count / TEAM, rest = count % TEAM;
    taken = 0;
#pragma unroll 4
    for (int64 step = 0; step < steps; ++step) {
        bool is_taken = true;
        double value = source.value(step * TEAM + team.lane, is_taken);
        if (is_taken) total += value;
        taken += is_taken;
    }
    for (int distance = TEAM / 2; distance > 0; distance >>= 1) total += down(team, total, distance);
    if (rest != 0) {
        bool is_taken = team.lane < rest;
        double value = is_taken ? source.value(steps * TEAM + team.lane, is_taken) : 0.0;
        taken += is_taken;
        add_rest(team, total, value, is_taken, rest);
    }
    return total;
}

// The sum of deviations from `center` and of their squares, in lane 0.
template <typename Source>
__device__ inline void squares_about(
    const Team& team, const Source& source, int64 count, double center, double& deviation, double& squares
) {
    int64 steps = count / TEAM, rest = count % TEAM;
    deviation = 0.0;
    squares = 0.0;
    for (int64 step = 0; step < steps; ++step) {
        bool is_taken = true;
        double value = source.value(step * TEAM + team.lane, is_taken) - center;
        if (is_taken) {
            deviation += value;
            squares += value * value;
        }
    }
    for (int distance = TEAM / 2; distance > 0; distance >>= 1) {
        deviation += down(team, deviation, distance);
        squares += down(team, squares, distance);
    }
    if (rest != 0) {
        bool is_taken = team.lane < rest;
        double value = is_taken ? source.value(steps * TEAM + team.lane, is_taken) - center : 0.0;
        add_rest(team, deviation, value, is_taken, rest);
        add_rest(team, squares, value * value, is_taken, rest);
    }
}

// The lanes of a team, folded in halves.
__device__ inline double folded(double (&lanes)[TEAM]) {
#pragma unroll
    for (int distance = TEAM / 2; distance > 0; distance >>= 1) {
#pragma unroll
        for (int lane = 0; lane < distance; ++lane) lanes[lane] += lanes[lane + distance];
    }
    return lanes[0];
}

// Likewise by one thread, which keeps the lanes of a team.
template <typename Source>
__device__ inline double sum_of(const Solo&, const Source& source, int64 count, int64& taken) {
    double lanes[TEAM] = {};
    taken = 0;
    int64 i = 0;
    for (; i + TEAM <= count; i += TEAM) {
#pragma unroll
        for (int lane = 0; lane < TEAM; ++lane) {
            bool is_taken = true;
            double value = source.value(i + lane, is_taken);
            if (is_taken) lanes[lane] += value;
            taken += is_taken;
        }
    }
    double total = folded(lanes);
    for (; i < count; ++i) {
        bool is_taken = true;
        double value = source.value(i, is_taken);
        if (is_taken) total += value;
        taken += is_taken;
    }
    return total;
}

template <typename Source>
__device__ inline void squares_about(
    const Solo&, const Source& source, int64 count, double center, double& deviation, double& squares
) {
    double deviations[TEAM] = {}, lanes[TEAM] = {};
    int64 i = 0;
    for (; i + TEAM <= count; i += TEAM) {
#pragma unroll
        for (int lane = 0; lane < TEAM; ++lane) {
            bool is_taken = true;
            double value = source.value(i + lane, is_taken) - center;
            if (!is_taken) continue;
            deviations[lane] += value;
            lanes[lane] += value * value;
        }
    }
    deviation = folded(deviations);
    squares = folded(lanes);
    for (; i < count; ++i) {
        bool is_taken = true;
        double value = source.value(i, is_taken) - center;
        if (!is_taken) continue;
        deviation += value;
        squares += value * value;
    }
}

template <typename Workers, typename Source>
__device__ inline void take_sum(const Workers& team, const Source& source, int64 count, State& state) {
    int64 taken;
    double total = sum_of(team, source, count, taken);
    taken = team_sum(team, taken);
    if (taken == 0) return;
    add_exactly<0>(state, total);
    state.words[2] += taken;
}

template <typename Workers, typename Source>
__device__ inline void take_variance(const Workers& team, const Source& source, int64 count, State& state) {
    int64 taken;
    double total = sum_of(team, source, count, taken);
    taken = from_lane(team, team_sum(team, taken), 0);
    if (taken == 0) return;
    double center = from_lane(team, total / (double)taken, 0);
    double deviation, squares;
    squares_about(team, source, count, center, deviation, squares);
    add_variance(state, center, deviation, squares - deviation * deviation / (double)taken, taken);
    state.words[5] += taken;
}

template <typename Workers>
__device__ inline void take_sum_int(const Workers& team, const AnyElements<Workers>& source, int64 count, State& state) {
    int64 high = 0, low = 0, taken = 0;
    for (int64 i = team.lane; i < count; i += Workers::LANES) {
        int64 a = 0, b = 0;
        if (!source.pair(i, a, b)) continue;
        high += a >> 32;
        low += a & 0xFFFFFFFFLL;
        ++taken;
    }
    state.words[0] += team_sum(team, high);
    state.words[1] += team_sum(team, low);
    state.words[2] += team_sum(team, taken);
}

template <typename Workers>
__device__ inline void take_plain_sum_int(const Workers& team, const int64* values, int64 count, State& state) {
    int64 high = 0, low = 0;
#pragma unroll 4
    for (int64 i = team.lane; i < count; i += Workers::LANES) {
        high += values[i] >> 32;
        low += values[i] & 0xFFFFFFFFLL;
    }
    state.words[0] += team_sum(team, high);
    state.words[1] += team_sum(team, low);
    state.words[2] += count;
}

template <typename Workers>
__device__ inline void take_minmax_int(const Workers& team, const AnyElements<Workers>& source, int64 count, State& state) {
    int64 least = INT64_MAX_VALUE, greatest = INT64_MIN_VALUE, taken = 0;
    for (int64 i = team.lane; i < count; i += Workers::LANES) {
        int64 a = 0, b = 0;
        if (!source.pair(i, a, b)) continue;
        least = least_of(least, a);
        greatest = greatest_of(greatest, a);
        ++taken;
    }
    for (int distance = Workers::LANES / 2; distance > 0; distance >>= 1) {
        least = least_of(least, down(team, least, distance));
        greatest = greatest_of(greatest, down(team, greatest, distance));
    }
    taken = team_sum(team, taken);
    if (taken == 0) return;
    keep_minmax_int(state, least, greatest);
    state.words[2] += taken;
}

// Whether a is less, -0.0 being less than 0.0, so that it does not show which lane has met a zero first; not of NaN.
__device__ inline bool precedes(double a, double b) { return a < b || (a == b && as_bits(a) < as_bits(b)); }

template <typename Workers>
__device__ inline void take_minmax_float(const Workers& team, const AnyElements<Workers>& source, int64 count, State& state) {
    double least = as_double(0x7FF0000000000000LL), greatest = -least;
    int64 nans = 0, taken = 0;
    for (int64 i = team.lane; i < count; i += Workers::LANES) {
        int64 a = 0, b = 0;
        if (!source.pair(i, a, b)) continue;
        double x = as_double(a);
        if (precedes(x, least)) least = x;
        if (precedes(greatest, x)) greatest = x;
        nans += is_nan(x);
        ++taken;
    }
    for (int distance = Workers::LANES / 2; distance > 0; distance >>= 1) {
        double low = down(team, least, distance), high = down(team, greatest, distance);
        if (precedes(low, least)) least = low;
        if (precedes(greatest, high)) greatest = high;
    }
    nans = team_sum(team, nans);
    taken = team_sum(team, taken);
    if (taken == 0) return;
    double nan = as_double(0x7FF8000000000000LL);
    keep_minmax_float(state, nans == taken ? nan : least, nans > 0 ? nan : greatest);
    state.words[2] += taken;
}

template <typename Workers>
__device__ inline void take_count(const Workers& team, const AnyElements<Workers>& source, int64 count, State& state) {
    int64 taken = 0;
    for (int64 i = team.lane; i < count; i += Workers::LANES) {
        int64 a = 0, b = 0;
        taken += source.pair(i, a, b);
    }
    state.words[0] += team_sum(team, taken);
}

// The position of the tile's first or last chosen element, -1 when there is none; in every lane of the team.
template <typename Workers>
__device__ inline int64 end_of(const Workers& team, const Tile& tile, bool is_first) {
    int64 position = is_first ? TILE_ROWS : -1;
    if (tile.chosen != 0) {
        int step = is_first ? __ffsll((long long)tile.chosen) - 1 : 63 - __clzll((long long)tile.chosen);
        position = (int64)step * Workers::LANES + team.lane;
    }
    for (int distance = Workers::LANES / 2; distance > 0; distance >>= 1) {
        int64 other = down(team, position, distance);
        position = is_first ? least_of(position, other) : greatest_of(position, other);
    }
    position = from_lane(team, position, 0);
    return position == TILE_ROWS ? -1 : position;
}

// ---- one primitive -------------------------------------------------------------------------------------------------

template <typename Workers>
__device__ inline bool is_plain(const Context<Workers>& context, const Tile& tile, const Operand& operand) {
    if (!tile.is_whole || tile.rows != nullptr || operand.kind != LOAD_64) return false;
    return context.columns.validity[operand.what * context.columns.segments + tile.segment] == 0;
}

template <typename T, typename Workers>
__device__ inline const T* plain_values(const Context<Workers>& context, const Tile& tile, const Operand& operand) {
    int64 address = context.columns.addresses[operand.what * context.columns.segments + tile.segment];
    return at<const T>(address + 8 * tile.row, tile.count);
}

template <typename L, typename R, typename Workers>
__device__ inline void take_plain_products(
    const Context<Workers>& context, const Tile& tile, const Operand& left, const Operand& right, State& state
) {
    PlainProducts<L, R> source = {plain_values<L>(context, tile, left), plain_values<R>(context, tile, right)};
    take_sum(context.team, source, tile.count, state);
}

// Add a tile to the state of a primitive that has operands; whether a fast way was found.
template <typename Workers>
__device__ inline bool take_plain(
    const Context<Workers>& context, const Tile& tile, int64 opcode, const Operand& left, const Operand& right, State& state
) {
    if (!is_plain(context, tile, left) || (right.kind != NOTHING && !is_plain(context, tile, right))) return false;
    switch (opcode) {
        case SUM_INT:
            take_plain_sum_int(context.team, plain_values<int64>(context, tile, left), tile.count, state);
            return true;
        case SUM_FLOAT: {
            PlainDoubles source = {plain_values<double>(context, tile, left)};
            take_sum(context.team, source, tile.count, state);
            return true;
        }
        case DOT_INT_INT: take_plain_products<int64, int64>(context, tile, left, right, state); return true;
        case DOT_INT_FLOAT: take_plain_products<int64, double>(context, tile, left, right, state); return true;
        case DOT_FLOAT_INT: take_plain_products<double, int64>(context, tile, left, right, state); return true;
        case DOT_FLOAT_FLOAT: take_plain_products<double, double>(context, tile, left, right, state); return true;
        default: return false;
    }
}

template <typename Workers>
__device__ inline void take(
    const Context<Workers>& context, const Tile& tile, int64 opcode, const Operand& left, const Operand& right, State& state,
    bool& overflows
) {
    const Workers& team = context.team;
    if (opcode == ROWS) {
        state.words[0] += team_sum(team, (int64)__popcll(tile.chosen));
        return;
    }
    if (take_plain(context, tile, opcode, left, right, state)) return;
    AnyElements<Workers> source = {context, tile, left, right, opcode, overflows};
    switch (opcode) {
        case COUNT: take_count(team, source, tile.count, state); break;
        case SUM_INT: take_sum_int(team, source, tile.count, state); break;
        case MINMAX_INT: take_minmax_int(team, source, tile.count, state); break;
        case MINMAX_FLOAT: take_minmax_float(team, source, tile.count, state); break;
        case VARIANCE: take_variance(team, source, tile.count, state); break;
        default: take_sum(team, source, tile.count, state);
    }
}
