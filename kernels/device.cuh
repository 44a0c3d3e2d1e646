// What every kernel builds on: words, addresses, teams of lanes, and the columns of a snapshot.
//
// Every kernel parameter is one word of 8 bytes (an address, an int64 or a float64), so that host code can pass any of
// them the same way.
#pragma once

typedef long long int64;
typedef unsigned long long uint64;

#define INT64_MIN_VALUE (-9223372036854775807LL - 1)
#define INT64_MAX_VALUE 9223372036854775807LL

// Rows of a tile, counted from the start of a segment, and lanes that share one: element i of a tile goes to lane
// i mod 16, which is the order of additions of the CPU's kernels, too.
#define TILE_ROWS 1024
#define TEAM 16
#define STEPS (TILE_ROWS / TEAM)

// The emulator checks that device memory begins and ends where a kernel thinks.
#ifndef CHECK_DEVICE_MEMORY
#define CHECK_DEVICE_MEMORY(address, bytes)
#endif

// `count` values at an address that stands in a table.
template <typename T>
__device__ inline T* at(int64 address, int64 count) {
    CHECK_DEVICE_MEMORY(address, count * (int64)sizeof(T));
    return reinterpret_cast<T*>(address);
}

// The columns of a snapshot: tables [column][segment] of the addresses of values and of validity bytes (0: nothing is
// NULL), and each segment's symbol.
struct Columns {
    const int64* addresses;
    const int64* validity;
    const int64* symbols;
    int64 segments;
};

__device__ inline Columns columns_at(const int64* words) {
    Columns columns;
    columns.addresses = reinterpret_cast<const int64*>(words[1]);
    columns.validity = reinterpret_cast<const int64*>(words[2]);
    columns.symbols = reinterpret_cast<const int64*>(words[3]);
    columns.segments = words[0];
    return columns;
}

__device__ inline int64 thread_index() { return (int64)blockIdx.x * blockDim.x + threadIdx.x; }

__device__ inline int64 thread_count() { return (int64)gridDim.x * blockDim.x; }

__device__ inline double as_double(int64 bits) { return __longlong_as_double(bits); }

__device__ inline int64 as_bits(double value) { return __double_as_longlong(value); }

__device__ inline bool is_nan(double value) { return value != value; }

__device__ inline int64 least_of(int64 a, int64 b) { return a < b ? a : b; }

__device__ inline int64 greatest_of(int64 a, int64 b) { return a > b ? a : b; }

// Quotient and remainder that round towards negative infinity; C++ truncates.
__device__ inline int64 floor_mod(int64 value, int64 width) {
    int64 rest = value % width;
    return rest != 0 && (rest < 0) != (width < 0) ? rest + width : rest;
}

// Floor to `origin` (in [0, width)) plus a multiple of `width`, never below the least int64.
__device__ inline int64 floor_to(int64 value, int64 width, int64 origin) {
    int64 beyond = floor_mod(value, width) - origin;
    if (beyond < 0) beyond += width;
    return value < INT64_MIN_VALUE + beyond ? INT64_MIN_VALUE : value - beyond;
}

// The last i with bounds[i] <= place, bounds ascending, bounds[0] <= place, `count` parts.
__device__ inline int64 part_of(const int64* bounds, int64 count, int64 place) {
    int64 low = 0, high = count;
    while (high - low > 1) {
        int64 middle = (low + high) >> 1;
        if (bounds[middle] <= place) low = middle;
        else high = middle;
    }
    return low;
}

// The first row in [low, high) whose time is at least `sought`, else high.
__device__ inline int64 first_at_or_after(const int64* times, int64 low, int64 high, int64 sought) {
    while (low < high) {
        int64 middle = low + ((high - low) >> 1);
        if (times[middle] < sought) low = middle + 1;
        else high = middle;
    }
    return low;
}

// A team: 16 neighbouring lanes of a warp that work on one tile. The other half of the warp may be elsewhere, so each
// team names its own lanes.
struct Team {
    static constexpr int LANES = TEAM;
    int lane;
    unsigned mask;
};

// A thread that works on a few rows alone, in the order in which a team would.
struct Solo {
    static constexpr int LANES = 1;
    static constexpr int lane = 0;
};

// Rows of a piece that a thread takes alone at most: one bit of a word for each.
#define SOLO_ROWS 64

__device__ inline Team team_of_thread() {
    Team team;
    team.lane = threadIdx.x & (TEAM - 1);
    team.mask = 0xFFFFu << (threadIdx.x & TEAM);
    return team;
}

__device__ inline double down(const Team& team, double value, int distance) {
    return __shfl_down_sync(team.mask, value, distance, TEAM);
}

__device__ inline int64 down(const Team& team, int64 value, int distance) {
    return __shfl_down_sync(team.mask, value, distance, TEAM);
}

__device__ inline double down(const Solo&, double value, int) { return value; }

__device__ inline int64 down(const Solo&, int64 value, int) { return value; }

__device__ inline double from_lane(const Solo&, double value, int) { return value; }

__device__ inline int64 from_lane(const Solo&, int64 value, int) { return value; }

__device__ inline double from_lane(const Team& team, double value, int lane) {
    return __shfl_sync(team.mask, value, lane, TEAM);
}

__device__ inline int64 from_lane(const Team& team, int64 value, int lane) {
    return __shfl_sync(team.mask, value, lane, TEAM);
}

// Rows that item `item` stands for: piece `item`, or one tile of a piece where `tile_bounds` (tiles before each piece,
// one entry more than pieces) is given.
__device__ inline void find_item(
    const int64* starts, const int64* ends, const int64* tile_bounds, int64 pieces, int64 item, int64& piece,
    int64& row, int64& end
) {
    piece = item;
    if (tile_bounds == nullptr) {
        row = starts[piece];
        end = ends[piece];
        return;
    }
    piece = part_of(tile_bounds, pieces, item);
    int64 tile = starts[piece] / TILE_ROWS + item - tile_bounds[piece];
    row = greatest_of(starts[piece], tile * TILE_ROWS);
    end = least_of(ends[piece], (tile + 1) * TILE_ROWS);
}
