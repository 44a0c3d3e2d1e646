// Arguments of window functions: one value per row, range by range.
#pragma once

#include "device.cuh"

// Range k has its values from sources[k] on (int64 where is_int, else float64), their validity bytes from validities[k]
// on (0: nothing is NULL), lengths[k] rows, and its results in the places from bounds[k] on.
struct Argument {
    const int64* sources;
    const int64* validities;
    const int64* lengths;
    const int64* bounds;
    int64 ranges;
    int64 is_int;
};

__device__ inline Argument argument_at(const int64* words) {
    Argument argument;
    argument.sources = reinterpret_cast<const int64*>(words[2]);
    argument.validities = reinterpret_cast<const int64*>(words[3]);
    argument.lengths = reinterpret_cast<const int64*>(words[4]);
    argument.bounds = reinterpret_cast<const int64*>(words[5]);
    argument.ranges = words[0];
    argument.is_int = words[1];
    return argument;
}

__device__ inline int64 bits_at(const Argument& argument, int64 range, int64 row) {
    return at<const int64>(argument.sources[range] + 8 * row, 1)[0];
}

__device__ inline double float_at(const Argument& argument, int64 range, int64 row) {
    int64 bits = bits_at(argument, range, row);
    return argument.is_int ? (double)bits : as_double(bits);
}

__device__ inline bool is_valid_at(const Argument& argument, int64 range, int64 row) {
    int64 validity = argument.validities[range];
    return validity == 0 || at<const unsigned char>(validity + row, 1)[0] != 0;
}

__device__ inline bool is_finite(double x) { return x - x == 0.0; }
