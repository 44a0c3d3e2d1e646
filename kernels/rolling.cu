// Aggregates over frames of rows that end with the current one, in a time that no frame length changes.
//
// A thread takes a strip of rows, at most as long as a frame. What frames of a strip hold before it begins is summed up
// backwards, from what all of them hold (the middle) to what the first one holds; what they hold of the strip itself,
// forwards. No value is ever taken off again, so that a spike, an infinity or a NaN leaves no trace when it has left
// the frame. Long middles are put together from the states of 64, 4,096 and 262,144 rows. NULLs are skipped; NaN is above
// all numbers; integers are exact; a result of fewer than `least` values is NULL, stored as 0.

#include "window.cuh"

#define MOST_STRIP_ROWS 32
#define LEVELS 3
#define FAN 64

namespace rolling {

enum { INTEGERS = 0, FLOATS = 1, SQUARES = 2, GREATEST = 3 };
enum {
    COUNT = 0, SUM_INT = 1, SUM_INT_HIGH = 2, AVG_INT = 3, SUM_FLOAT = 4, AVG_FLOAT = 5, VARIANCE_SAMP = 6,
    VARIANCE_POP = 7, STDDEV_SAMP = 8, STDDEV_POP = 9, EXTREME_INT = 10, EXTREME_FLOAT = 11
};

// Values that are not NULL, and by family: high and low half of their sum; their sum and what rounding took off; their
// mean and the sum of squared deviations from it; the greatest of their keys.
struct State {
    int64 n;
    int64 a;
    int64 b;
};

// States of 64, 4,096 and 262,144 rows each: addresses, and states before each range.
struct Levels {
    const int64* words;
    __device__ State* states(int level) const { return reinterpret_cast<State*>(words[level]); }
    __device__ const int64* bounds(int level) const { return reinterpret_cast<const int64*>(words[LEVELS + level]); }
};

__device__ inline int64 rows_of_level(int level) { return (int64)FAN << (6 * level); }

// The bits of a float from its key, and the key of any but NaN from its bits.
__device__ inline int64 reordered(int64 bits) { return bits ^ ((bits >> 63) & INT64_MAX_VALUE); }

// Integers in the order of floats from their bits, NaN last.
__device__ inline int64 key_of(int64 bits) { return is_nan(as_double(bits)) ? INT64_MAX_VALUE : reordered(bits); }

// The rounded sum; `lost` becomes what rounding took off (Knuth).
__device__ inline double two_sum(double a, double b, double& lost) {
    double total = a + b, taken = total - a;
    lost = (a - (total - taken)) + (b - taken);
    return total;
}

template <int FAMILY>
__device__ inline State cleared() {
    State state = {0, FAMILY == GREATEST ? INT64_MIN_VALUE : 0, 0};
    return state;
}

template <int FAMILY>
__device__ inline void add(State& state, int64 word) {
    ++state.n;
    if (FAMILY == INTEGERS) {
        state.a += word >> 32;
        state.b += word & 0xFFFFFFFFLL;
    } else if (FAMILY == GREATEST) {
        state.a = greatest_of(state.a, word);
    } else if (FAMILY == FLOATS) {
        double lost;
        state.a = as_bits(two_sum(as_double(state.a), as_double(word), lost));
        state.b = as_bits(as_double(state.b) + lost);
    } else if (state.n == 1) {
        state.a = word;
        state.b = 0;
    } else {
        double x = as_double(word), deviation = x - as_double(state.a);
        double mean = as_double(state.a) + deviation / (double)state.n;
        state.a = as_bits(mean);
        state.b = as_bits(as_double(state.b) + deviation * (x - mean));
    }
}

// A state and that of the values behind it as one.
template <int FAMILY>
__device__ inline State merged(const State& one, const State& other) {
    State both = {one.n + other.n, one.a, one.b};
    if (FAMILY == INTEGERS) {
        both.a += other.a;
        both.b += other.b;
    } else if (FAMILY == GREATEST) {
        both.a = greatest_of(one.a, other.a);
    } else if (FAMILY == FLOATS) {
        double lost;
        both.a = as_bits(two_sum(as_double(one.a), as_double(other.a), lost));
        both.b = as_bits(as_double(one.b) + as_double(other.b) + lost);
    } else if (one.n == 0) {
        both = other;
    } else if (other.n != 0) {
        double share = (double)other.n / (double)both.n, difference = as_double(other.a) - as_double(one.a);
        both.a = as_bits(as_double(one.a) + difference * share);
        double apart = difference * difference * (double)one.n * share + (difference - difference);  // NaN of infinity
        both.b = as_bits(as_double(one.b) + as_double(other.b) + apart);
    }
    return both;
}

// What becomes of a state; `is_beyond` is set when a SUM_INT does not fit into int64.
__device__ inline int64 value_of(int64 operation, int64 flip, const State& state, bool& is_beyond) {
    if (operation == COUNT) return state.n;
    if (operation == EXTREME_INT) return state.a ^ flip;
    if (operation == EXTREME_FLOAT) return reordered(state.a ^ flip);
    double n = (double)state.n;
    if (operation <= AVG_INT) {
        int64 high = state.a + (state.b >> 32), low = state.b & 0xFFFFFFFFLL;
        if (operation == AVG_INT) return as_bits(((double)high * 4294967296.0 + (double)low) / n);
        if (operation == SUM_INT_HIGH) return high >> 32;
        is_beyond |= (high >> 31) != (high >> 63);
        return (int64)((uint64)high << 32 | (uint64)low);
    }
    double a = as_double(state.a), b = as_double(state.b);
    if (operation <= AVG_FLOAT) {
        double total = is_finite(a) ? a + b : a;
        return as_bits(operation == SUM_FLOAT ? total : total / n);
    }
    double variance = b / (operation == VARIANCE_SAMP || operation == STDDEV_SAMP ? n - 1.0 : n);
    return as_bits(operation >= STDDEV_SAMP ? sqrt(variance) : variance);
}

template <int FAMILY>
__device__ inline void add_row(const Argument& argument, int64 flip, int64 range, int64 row, State& state) {
    if (!is_valid_at(argument, range, row)) return;
    int64 word = bits_at(argument, range, row);
    if (FAMILY == GREATEST) word = (argument.is_int ? word : key_of(word)) ^ flip;
    else if (FAMILY != INTEGERS && argument.is_int) word = as_bits((double)word);
    add<FAMILY>(state, word);
}

// The state of rows `row` to `after`; from whole states where there are any.
template <int FAMILY>
__device__ inline State middle_of(
    const Argument& argument, const Levels& levels, int64 flip, int64 range, int64 row, int64 after
) {
    State state = cleared<FAMILY>();
    while (row < after) {
        int level = levels.words == nullptr ? -1 : LEVELS - 1;
        while (level >= 0 && (row % rows_of_level(level) != 0 || after - row < rows_of_level(level))) --level;
        if (level < 0) {
            add_row<FAMILY>(argument, flip, range, row, state);
            ++row;
        } else {
            int64 place = levels.bounds(level)[range] + row / rows_of_level(level);
            state = merged<FAMILY>(state, levels.states(level)[place]);
            row += rows_of_level(level);
        }
    }
    return state;
}

template <int FAMILY>
__device__ inline State state_of(
    const Argument& argument, const Levels& levels, int level, int64 flip, int64 range, int64 number
) {
    int64 row = number * rows_of_level(level), after = least_of(argument.lengths[range], row + rows_of_level(level));
    State state = cleared<FAMILY>();
    if (level == 0) {
        for (; row < after; ++row) add_row<FAMILY>(argument, flip, range, row, state);
        return state;
    }
    int64 place = levels.bounds(level - 1)[range] + FAN * number;
    for (; row < after; row += rows_of_level(level - 1), ++place) {
        state = merged<FAMILY>(state, levels.states(level - 1)[place]);
    }
    return state;
}

template <int FAMILY>
__device__ inline bool roll_strip(
    const Argument& argument, const Levels& levels, int64 operation, int64 flip, int64 least, int64 rows, int64 range,
    int64 row, int64 count, int64* out, unsigned char* validity
) {
    State before[MOST_STRIP_ROWS];
    State state = middle_of<FAMILY>(argument, levels, flip, range, greatest_of(0, row + count - rows), row);
    for (int64 i = count - 1; i >= 0; --i) {
        before[i] = state;
        int64 head = row + i - rows;
        if (head >= 0) add_row<FAMILY>(argument, flip, range, head, state);
    }
    state = cleared<FAMILY>();
    bool is_beyond = false;
    for (int64 i = 0; i < count; ++i) {
        add_row<FAMILY>(argument, flip, range, row + i, state);
        State frame = merged<FAMILY>(before[i], state);
        int64 place = argument.bounds[range] + row + i;
        out[place] = frame.n >= least ? value_of(operation, flip, frame, is_beyond) : 0;
        if (validity != nullptr) validity[place] = frame.n >= least;
    }
    return is_beyond;
}

__device__ inline State state_of(
    const Argument& argument, const Levels& levels, int64 family, int level, int64 flip, int64 range, int64 number
) {
    switch (family) {
        case INTEGERS: return state_of<INTEGERS>(argument, levels, level, flip, range, number);
        case FLOATS: return state_of<FLOATS>(argument, levels, level, flip, range, number);
        case SQUARES: return state_of<SQUARES>(argument, levels, level, flip, range, number);
        default: return state_of<GREATEST>(argument, levels, level, flip, range, number);
    }
}

__device__ inline bool roll_strip(
    const Argument& argument, const Levels& levels, int64 family, int64 operation, int64 flip, int64 least, int64 rows,
    int64 range, int64 row, int64 count, int64* out, unsigned char* validity
) {
    switch (family) {
        case INTEGERS:
            return roll_strip<INTEGERS>(argument, levels, operation, flip, least, rows, range, row, count, out, validity);
        case FLOATS:
            return roll_strip<FLOATS>(argument, levels, operation, flip, least, rows, range, row, count, out, validity);
        case SQUARES:
            return roll_strip<SQUARES>(argument, levels, operation, flip, least, rows, range, row, count, out, validity);
        default:
            return roll_strip<GREATEST>(argument, levels, operation, flip, least, rows, range, row, count, out, validity);
    }
}

}  // namespace rolling

// The states of one level, a thread for each; the level below is there.
extern "C" __global__ void sum_level(
    const int64* argument_words, const int64* level_words, int64 level, int64 count, int64 family, int64 flip
) {
    int64 item = thread_index();
    if (item >= count) return;
    Argument argument = argument_at(argument_words);
    rolling::Levels levels = {level_words};
    int64 range = part_of(levels.bounds((int)level), argument.ranges, item);
    int64 number = item - levels.bounds((int)level)[range];
    levels.states((int)level)[item] = rolling::state_of(argument, levels, family, (int)level, flip, range, number);
}

// The value of the frame of each row, at most `rows` rows, a thread per strip of `strip_rows`. `level_words` may be
// null where a frame is no longer than a strip. flags[0] becomes 1 when a SUM_INT is beyond int64.
extern "C" __global__ void roll_frames(
    const int64* argument_words, const int64* level_words, const int64* strip_bounds, int64 strips, int64 strip_rows,
    int64 family, int64 operation, int64 flip, int64 least, int64 rows, int64* out, unsigned char* validity,
    unsigned long long* flags
) {
    int64 item = thread_index();
    if (item >= strips) return;
    Argument argument = argument_at(argument_words);
    rolling::Levels levels = {level_words};
    int64 range = part_of(strip_bounds, argument.ranges, item), row = (item - strip_bounds[range]) * strip_rows;
    int64 count = least_of(strip_rows, argument.lengths[range] - row);
    bool is_beyond = rolling::roll_strip(
        argument, levels, family, operation, flip, least, rows, range, row, count, out, validity);
    if (is_beyond) atomicOr(flags, 1ULL);
}
