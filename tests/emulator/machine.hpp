// A block of GPU threads as fibers: what they wait for, and what goes wrong among them.
//
// A collective (shuffle, ballot, barrier) completes when every lane of its mask has arrived at one of the same kind and
// mask; whoever names himself not, overlaps another one that waits, reads a lane outside the mask, or leaves others
// waiting for ever, aborts the launch with kernel, block, thread and reason. Threads and blocks run in an order that a
// seed decides, and shared memory is full of 0xA5 before each block.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "sanitizers.hpp"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

struct Index {
    unsigned x = 0, y = 0, z = 0;
};

enum Kind { NO_WAIT, SHUFFLE, BALLOT, WARP_BARRIER, BLOCK_BARRIER };

constexpr const char* KIND_NAMES[] = {"nothing", "a shuffle", "a ballot", "__syncwarp", "__syncthreads"};
constexpr int WARP = 32;
constexpr size_t STACK_BYTES = 128 * 1024;

struct Fiber {
#if defined(__x86_64__)
    void* stack_pointer = nullptr;
#else
    ucontext_t context;
#endif
    char* stack = nullptr;
    Index thread;
    unsigned lane = 0, warp = 0;
    bool is_done = false;
    Kind waits_for = NO_WAIT;
    unsigned mask = 0;
    int source = 0;
    uint64_t given = 0, taken = 0;
    void* barrier = nullptr;  // the generation that it waits at
    sanitizers::Trace trace;
};

using Entry = void (*)(void**);

struct Machine {
    std::vector<Fiber> fibers;
    std::vector<int> ready;
    size_t ready_head = 0;
    Fiber main;
    Fiber* current = nullptr;
    int threads = 0, done = 0, at_barrier = 0, barrier_line = 0;
    Index block, grid_size, block_size;
    const char* kernel = "";
    Entry entry = nullptr;
    void** arguments = nullptr;
    uint64_t random = 1;
    bool has_failed = false;
    char message[600] = "";
    const int64_t* extents = nullptr;  // begins and ends of device memory, ascending
    int64_t extent_count = 0;
    int64_t last_begin = 0, last_end = 0;
    void* barrier = nullptr;

    uint64_t next_random() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        return random;
    }
};

extern Machine machine;

// Give up the launch: back to the host, with a reason.
[[noreturn]] void fail(const char* format, ...);

// Wait until all lanes of `mask` have come to a shuffle, ballot or warp barrier; what the lane gets of it.
uint64_t collect(Kind kind, unsigned mask, uint64_t given, int source);

// Wait until all threads of the block have come to the barrier of this line.
void block_barrier(int line);

// Order what came before and after among threads that pass a fence.
void fence();

// Fail unless the bytes lie in one allocation; remember which.
void find_device_memory(int64_t address, int64_t bytes);

inline void check_device_memory(int64_t address, int64_t bytes) {
    if (bytes <= 0 || (address >= machine.last_begin && address + bytes <= machine.last_end)) return;
    find_device_memory(address, bytes);
}

struct Kernel {
    const char* name;
    int parameters;
    Entry entry;
};

// Run the blocks `first` to `first + count` of a grid of `blocks`; 0, or 1 with the reason in `message`. Device memory is
// `extent_count` pairs of begin and end.
int launch(
    const Kernel& kernel, int64_t blocks, int64_t first, int64_t count, int64_t threads, void** arguments, const int64_t* extents,
    int64_t extent_count, uint64_t seed);

}  // namespace emulator
