// Primitives of aggregation: what their states hold, and how tiles and other states are added to them.
//
// The words of a state are those of zeptodb/backends/states.py:
//
//     ROWS, COUNT        rows
//     SUM_INT            high half, low half (the sum is high * 2^32 + low), rows
//     SUM_FLOAT, DOT_*   sum, compensation (floats), rows
//     MINMAX_*           least, greatest, rows
//     VARIANCE           center, sum of deviations from it, compensation, squared deviations from the mean,
//                        compensation (floats), rows
//     FIRST, LAST        row within the segment, -1 when there is none; of groups the index of the partial result
//
// Sums of floats are compensated and follow one another in a fixed order. NaN is greater than every number.
#pragma once

#include "device.cuh"

enum {
    ROWS = 0, COUNT = 1, SUM_INT = 2, SUM_FLOAT = 3, DOT_INT_INT = 4, DOT_INT_FLOAT = 5, DOT_FLOAT_INT = 6,
    DOT_FLOAT_FLOAT = 7, MINMAX_INT = 8, MINMAX_FLOAT = 9, VARIANCE = 10, FIRST = 11, LAST = 12
};

#define STATE_WORDS 6

struct State {
    int64 words[STATE_WORDS];
};

__device__ inline int words_of(int64 opcode) {
    if (opcode == VARIANCE) return 6;
    return opcode >= SUM_INT && opcode <= MINMAX_FLOAT ? 3 : 1;
}

__device__ inline State empty_state(int64 opcode) {
    State state;
    for (int w = 0; w < STATE_WORDS; ++w) state.words[w] = 0;
    if (opcode == FIRST || opcode == LAST) state.words[0] = -1;
    if (opcode == MINMAX_INT) {
        state.words[0] = INT64_MAX_VALUE;
        state.words[1] = INT64_MIN_VALUE;
    }
    if (opcode == MINMAX_FLOAT) {
        state.words[0] = 0x7FF8000000000000LL;
        state.words[1] = (int64)0xFFF0000000000000ULL;
    }
    return state;
}

// States lie in tables [word][item]; `stride` is the number of items.
__device__ inline State load_state(int64 opcode, const int64* table, int64 stride, int64 slot, int64 item) {
    State state = empty_state(opcode);
    int words = words_of(opcode);
#pragma unroll
    for (int w = 0; w < STATE_WORDS; ++w) {
        if (w < words) state.words[w] = table[(slot + w) * stride + item];
    }
    return state;
}

__device__ inline void store_state(
    int64 opcode, const State& state, int64* table, int64 stride, int64 slot, int64 item
) {
    int words = words_of(opcode);
#pragma unroll
    for (int w = 0; w < STATE_WORDS; ++w) {
        if (w < words) table[(slot + w) * stride + item] = state.words[w];
    }
}

// Add to the float sum in words w and w + 1: Knuth's two-sum.
template <int w>
__device__ inline void add_exactly(State& state, double value) {
    double before = as_double(state.words[w]);
    double after = before + value;
    double part = after - before;
    double rounded_off = (before - (after - part)) + (value - part);
    state.words[w] = as_bits(after);
    state.words[w + 1] = as_bits(as_double(state.words[w + 1]) + rounded_off);
}

__device__ inline bool is_above(double value, double other) {
    return value > other || (is_nan(value) && !is_nan(other));
}

__device__ inline void keep_minmax_int(State& state, int64 least, int64 greatest) {
    state.words[0] = least_of(state.words[0], least);
    state.words[1] = greatest_of(state.words[1], greatest);
}

__device__ inline void keep_minmax_float(State& state, double least, double greatest) {
    if (is_above(as_double(state.words[0]), least)) state.words[0] = as_bits(least);
    if (is_above(greatest, as_double(state.words[1]))) state.words[1] = as_bits(greatest);
}

// Combine with `count` values: the sum of their deviations from `center`, and of squares of those from their mean (Chan,
// Golub and LeVeque). Means are kept as deviations from the first center, so that their differences lose nothing.
__device__ inline void add_variance(State& state, double center, double total, double squares, int64 count) {
    int64 before = state.words[5];
    double added = (double)count;
    if (before == 0) state.words[0] = as_bits(center);
    double offset = center - as_double(state.words[0]);
    if (before > 0) {
        double mean = (as_double(state.words[1]) + as_double(state.words[2])) / (double)before;
        double shift = offset + total / added - mean;
        add_exactly<3>(state, shift * shift * ((double)before * added / ((double)before + added)));
    }
    add_exactly<3>(state, squares);
    add_exactly<1>(state, offset * added);
    add_exactly<1>(state, total);
}

// Add a partial result that follows in order; of FIRST and LAST the row of the same segment.
__device__ inline void merge(int64 opcode, State& state, const State& given) {
    if (opcode == ROWS || opcode == COUNT) {
        state.words[0] += given.words[0];
        return;
    }
    if (opcode == FIRST || opcode == LAST) {
        if (given.words[0] >= 0 && (opcode == LAST || state.words[0] < 0)) state.words[0] = given.words[0];
        return;
    }
    if (opcode == VARIANCE) {
        if (given.words[5] == 0) return;
        double deviation = as_double(given.words[1]) + as_double(given.words[2]);
        add_variance(state, as_double(given.words[0]), deviation, as_double(given.words[3]), given.words[5]);
        state.words[4] = as_bits(as_double(state.words[4]) + as_double(given.words[4]));
        state.words[5] += given.words[5];
        return;
    }
    if (given.words[2] == 0) return;
    if (opcode == SUM_INT) {
        int64 low = state.words[1] + given.words[1];
        state.words[0] += given.words[0] + (low >> 32);
        state.words[1] = low & 0xFFFFFFFFLL;
    } else if (opcode == MINMAX_INT) {
        keep_minmax_int(state, given.words[0], given.words[1]);
    } else if (opcode == MINMAX_FLOAT) {
        keep_minmax_float(state, as_double(given.words[0]), as_double(given.words[1]));
    } else {
        add_exactly<0>(state, as_double(given.words[0]));
        state.words[1] = as_bits(as_double(state.words[1]) + as_double(given.words[1]));
    }
    state.words[2] += given.words[2];
}
