// CUDA's device language for g++: every thread of a block is a fiber, and what threads do together is checked.
//
// A collective (shuffle, ballot, barrier) completes when every lane of its mask has arrived at one of the same kind and
// mask; whoever names himself not, overlaps another one that waits, reads a lane outside the mask, or leaves others
// waiting for ever, aborts the launch with kernel, block, thread and reason. Threads and blocks run in an order that a
// seed decides, and shared memory is full of 0xA5 before each block.
#pragma once

#include <cmath>
#include <csetjmp>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("emulated_shared")))

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
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack = nullptr;
#endif
#if defined(__SANITIZE_THREAD__)
    void* tsan = nullptr;
#endif
};

using Entry = void (*)(void**);

struct Machine {
    std::vector<Fiber> fibers;
    std::vector<int> ready;
    size_t ready_head = 0;
    Fiber main;
    Fiber* current = nullptr;
    int threads = 0, done = 0, at_barrier = 0;
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
    char barrier_object = 0;

    uint64_t next_random() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        return random;
    }
};

inline Machine machine;

#if defined(__x86_64__)
extern "C" void emulator_switch(void** from, void* to);
asm(R"(
.text
.globl emulator_switch
.type emulator_switch,@function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulator_switch,.-emulator_switch
)");
#endif

// `is_barrier`: memory written before is visible after it; a mere shuffle orders nothing.
inline void switch_to(Fiber& to, bool is_last = false) {
    Fiber& from = *machine.current;
    machine.current = &to;
#if defined(__SANITIZE_ADDRESS__)
    bool is_main = &to == &machine.main;
    __sanitizer_start_switch_fiber(
        is_last ? nullptr : &from.fake_stack, is_main ? to.stack : to.stack, is_main ? (size_t)to.given : STACK_BYTES);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__x86_64__)
    emulator_switch(&from.stack_pointer, to.stack_pointer);
#else
    swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(machine.current->fake_stack, &bottom, &size);
    if (machine.main.stack == nullptr) {
        machine.main.stack = (char*)bottom;
        machine.main.given = size;
    }
#endif
    (void)is_last;
}

// Give up the launch: back to the host, with a reason.
[[noreturn]] inline void fail(const char* format, ...) {
    if (!machine.has_failed) {
        machine.has_failed = true;
        char reason[400];
        va_list list;
        va_start(list, format);
        vsnprintf(reason, sizeof reason, format, list);
        va_end(list);
        const Fiber& fiber = *machine.current;
        snprintf(
            machine.message, sizeof machine.message, "kernel %s, block %u, thread %u: %s", machine.kernel,
            machine.block.x, fiber.thread.x, reason);
    }
    switch_to(machine.main, true);
    abort();
}

inline void run_next() {
    if (machine.ready_head < machine.ready.size()) {
        switch_to(machine.fibers[machine.ready[machine.ready_head++]]);
        return;
    }
    const Fiber* waiting = nullptr;
    for (int i = 0; i < machine.threads && waiting == nullptr; ++i) {
        if (!machine.fibers[i].is_done) waiting = &machine.fibers[i];
    }
    machine.current = const_cast<Fiber*>(waiting);
    fail(
        "waits for ever at %s (mask %08x): %d of %d threads have ended or wait elsewhere",
        KIND_NAMES[waiting->waits_for], waiting->mask, machine.done, machine.threads);
}

inline void make_ready(int index) {
    if (machine.ready_head > 4096) {
        machine.ready.erase(machine.ready.begin(), machine.ready.begin() + machine.ready_head);
        machine.ready_head = 0;
    }
    machine.ready.push_back(index);
}

inline void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    if (machine.main.stack == nullptr) {
        machine.main.stack = (char*)bottom;
        machine.main.given = size;
    }
#endif
    machine.entry(machine.arguments);
    Fiber& self = *machine.current;
    self.is_done = true;
    machine.done += 1;
    if (machine.at_barrier > 0) fail("has ended while others wait at __syncthreads");
    if (machine.done == machine.threads) switch_to(machine.main, true);
    else run_next();
    abort();
}

inline void prepare(Fiber& fiber, int index) {
    if (fiber.stack == nullptr) fiber.stack = (char*)aligned_alloc(64, STACK_BYTES);
    fiber.thread = Index{(unsigned)index, 0, 0};
    fiber.lane = index % WARP;
    fiber.warp = index / WARP;
    fiber.is_done = false;
    fiber.waits_for = NO_WAIT;
#if defined(__x86_64__)
    // Tops lie apart, so that the stacks do not all meet in one set of the cache.
    uintptr_t top = (uintptr_t)fiber.stack + STACK_BYTES - 64 - 320 * (index % WARP);
    void** place = (void**)(top & ~(uintptr_t)63);
    *--place = nullptr;  // the return address of fiber_main: none
    *--place = (void*)fiber_main;
    place -= 6;
    memset(place, 0, 6 * sizeof(void*));
    fiber.stack_pointer = place;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber.context, fiber_main, 0);
#endif
#if defined(__SANITIZE_THREAD__)
    if (fiber.tsan != nullptr) __tsan_destroy_fiber(fiber.tsan);
    fiber.tsan = __tsan_create_fiber(0);
    __tsan_acquire(&machine.barrier_object);
#endif
}

// ---- collectives ---------------------------------------------------------------------------------------------------

inline bool overlaps_another(const Fiber& self, Kind kind, unsigned mask) {
    for (int i = self.warp * WARP; i < machine.threads && i < (int)(self.warp + 1) * WARP; ++i) {
        const Fiber& other = machine.fibers[i];
        if (other.waits_for == NO_WAIT || other.waits_for == BLOCK_BARRIER || &other == &self) continue;
        if ((other.mask & mask) != 0 && (other.mask != mask || other.waits_for != kind)) return true;
    }
    return false;
}

inline void complete(const Fiber& self, Kind kind, unsigned mask) {
    Fiber* lanes = &machine.fibers[self.warp * WARP];
    uint64_t ballot = 0;
    for (int lane = 0; lane < WARP; ++lane) {
        if ((mask >> lane) & 1u && lanes[lane].given != 0) ballot |= 1ULL << lane;
    }
    bool is_reversed = machine.next_random() & 1;
    for (int k = 0; k < WARP; ++k) {
        int lane = is_reversed ? WARP - 1 - k : k;
        if (!((mask >> lane) & 1u)) continue;
        Fiber& fiber = lanes[lane];
        fiber.waits_for = NO_WAIT;
        if (kind == BALLOT) fiber.taken = ballot;
        if (kind == SHUFFLE) fiber.taken = lanes[fiber.source].given;
        if (&fiber != &self) make_ready((int)(self.warp * WARP) + lane);
    }
}

inline uint64_t collect(Kind kind, unsigned mask, uint64_t given, int source) {
    Fiber& self = *machine.current;
    if (!((mask >> self.lane) & 1u)) fail("is not in the mask %08x of %s", mask, KIND_NAMES[kind]);
    if (overlaps_another(self, kind, mask)) fail("%s (mask %08x) meets another one", KIND_NAMES[kind], mask);
    if (kind == SHUFFLE && !((mask >> source) & 1u)) fail("reads lane %d, outside the mask %08x", source, mask);
    self.waits_for = kind;
    self.mask = mask;
    self.given = given;
    self.source = source;
    unsigned arrived = 0;
    for (int lane = 0; lane < WARP; ++lane) {
        int index = self.warp * WARP + lane;
        if (index >= machine.threads) break;
        const Fiber& other = machine.fibers[index];
        if (other.waits_for == kind && other.mask == mask) arrived |= 1u << lane;
    }
#if defined(__SANITIZE_THREAD__)
    if (kind == WARP_BARRIER) __tsan_release(&machine.fibers[self.warp * WARP]);
#endif
    if (arrived == mask) complete(self, kind, mask);
    else run_next();
#if defined(__SANITIZE_THREAD__)
    if (kind == WARP_BARRIER) __tsan_acquire(&machine.fibers[self.warp * WARP]);
#endif
    return self.taken;
}

inline void block_barrier() {
    Fiber& self = *machine.current;
    if (machine.done > 0) fail("comes to __syncthreads after %d threads have ended", machine.done);
    self.waits_for = BLOCK_BARRIER;
    self.mask = ~0u;
#if defined(__SANITIZE_THREAD__)
    __tsan_release(&machine.barrier_object);
#endif
    if (++machine.at_barrier < machine.threads) {
        run_next();
    } else {
        machine.at_barrier = 0;
        int first = (int)(machine.next_random() % machine.threads);
        for (int k = 0; k < machine.threads; ++k) {
            Fiber& fiber = machine.fibers[(first + k) % machine.threads];
            fiber.waits_for = NO_WAIT;
            if (&fiber != &self) make_ready((first + k) % machine.threads);
        }
    }
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(&machine.barrier_object);
#endif
}

template <typename T>
inline T shuffle(unsigned mask, T value, int source) {
    static_assert(sizeof(T) <= 8, "shuffles move words");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    bits = collect(SHUFFLE, mask, bits, source);
    memcpy(&value, &bits, sizeof(T));
    return value;
}

inline int lane_in(int width, int offset) {
    int lane = machine.current->lane, first = lane / width * width;
    int source = lane + offset;
    return source < first || source >= first + width ? lane : source;
}

// ---- memory --------------------------------------------------------------------------------------------------------

inline void check_device_memory(int64_t address, int64_t bytes) {
    if (bytes <= 0 || (address >= machine.last_begin && address + bytes <= machine.last_end)) return;
    int64_t low = 0, high = machine.extent_count;
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if (machine.extents[2 * middle] <= address) low = middle;
        else high = middle;
    }
    bool is_there = machine.extent_count > 0 && machine.extents[2 * low] <= address &&
        address + bytes <= machine.extents[2 * low + 1];
    if (!is_there) fail("%lld bytes at %llx are not in device memory", (long long)bytes, (long long)address);
    machine.last_begin = machine.extents[2 * low];
    machine.last_end = machine.extents[2 * low + 1];
}

template <typename T, typename U>
inline T atomic(T* address, U value, int operation) {
    check_device_memory((int64_t)address, sizeof(T));
    T before = __atomic_load_n(address, __ATOMIC_RELAXED);
    T after = operation == 0 ? (T)(before + (T)value) : (T)(before | (T)value);
    __atomic_store_n(address, after, __ATOMIC_RELAXED);
    return before;
}

// ---- launches ------------------------------------------------------------------------------------------------------

template <typename... A, size_t... I>
inline void call(void (*kernel)(A...), void** words, std::index_sequence<I...>) {
    kernel(*(A*)words[I]...);
}

template <auto kernel>
struct Launcher;

template <typename... A, void (*kernel)(A...)>
struct Launcher<kernel> {
    static_assert(((sizeof(A) == 8) && ...), "a kernel parameter is one word of 8 bytes");
    static constexpr int parameters = sizeof...(A);
    static void run(void** words) { call(kernel, words, std::index_sequence_for<A...>{}); }
};

struct Kernel {
    const char* name;
    int parameters;
    Entry entry;
};

}  // namespace emulator

extern "C" char __start_emulated_shared[] __attribute__((weak));
extern "C" char __stop_emulated_shared[] __attribute__((weak));

namespace emulator {

inline void run_block(unsigned block) {
    machine.block = Index{block, 0, 0};
    machine.done = machine.at_barrier = 0;
    machine.ready.clear();
    machine.ready_head = 0;
    if (__start_emulated_shared != nullptr) {
        memset(__start_emulated_shared, 0xA5, __stop_emulated_shared - __start_emulated_shared);
    }
    int threads = machine.threads;
    for (int i = 0; i < threads; ++i) prepare(machine.fibers[i], i);
    // Warps stay together: which thread of a warp begins, and which warp, is chance.
    unsigned twist = (unsigned)machine.next_random();
    int warps = (threads + WARP - 1) / WARP;
    for (int w = 0; w < warps; ++w) {
        int warp = (w + twist / WARP) % warps;
        for (int l = 0; l < WARP; ++l) {
            int index = warp * WARP + ((l * ((twist & 6) + 1) + twist) % WARP);
            if (index < threads) machine.ready.push_back(index);
        }
    }
    run_next();
}

// Run a kernel; 0, or 1 with the reason in `message`.
inline int launch(
    const Kernel& kernel, int64_t blocks, int64_t threads, void** arguments, const int64_t* extents,
    int64_t extent_count, uint64_t seed
) {
    machine.kernel = kernel.name;
    machine.entry = kernel.entry;
    machine.arguments = arguments;
    machine.threads = (int)threads;
    machine.grid_size = Index{(unsigned)blocks, 1, 1};
    machine.block_size = Index{(unsigned)threads, 1, 1};
    machine.random = seed * 0x9E3779B97F4A7C15ULL | 1;
    machine.extents = extents;
    machine.extent_count = extent_count;
    machine.last_begin = machine.last_end = 0;
    machine.has_failed = false;
    if (machine.fibers.size() < (size_t)threads) machine.fibers.resize(threads);
#if defined(__SANITIZE_THREAD__)
    machine.main.tsan = __tsan_get_current_fiber();
#endif
    machine.current = &machine.main;
    uint64_t first = machine.next_random() % blocks;
    bool is_reversed = machine.next_random() & 1;
    for (int64_t b = 0; b < blocks && !machine.has_failed; ++b) {
        uint64_t block = (first + (is_reversed ? blocks - b : b)) % blocks;
        run_block((unsigned)block);
    }
    return machine.has_failed;
}

}  // namespace emulator

// ---- the device language -------------------------------------------------------------------------------------------

#define threadIdx (emulator::machine.current->thread)
#define blockIdx (emulator::machine.block)
#define blockDim (emulator::machine.block_size)
#define gridDim (emulator::machine.grid_size)
#define CHECK_DEVICE_MEMORY(address, bytes) emulator::check_device_memory(address, bytes)

template <typename T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
    int first = emulator::machine.current->lane / width * width;
    return emulator::shuffle(mask, value, first + (lane & (width - 1)));
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, int distance, int width = 32) {
    return emulator::shuffle(mask, value, emulator::lane_in(width, distance));
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, int distance, int width = 32) {
    return emulator::shuffle(mask, value, emulator::lane_in(width, -distance));
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    return (unsigned)emulator::collect(emulator::BALLOT, mask, predicate != 0, 0);
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) { emulator::collect(emulator::WARP_BARRIER, mask, 0, 0); }
inline void __syncthreads() { emulator::block_barrier(); }
inline void __threadfence() {}
template <typename T, typename U>
inline T atomicAdd(T* address, U value) { return emulator::atomic(address, value, 0); }
template <typename T, typename U>
inline T atomicOr(T* address, U value) { return emulator::atomic(address, value, 1); }
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(long long value) { return __builtin_ffsll(value); }
inline int __clzll(long long value) { return value == 0 ? 64 : __builtin_clzll((unsigned long long)value); }
inline double __longlong_as_double(long long bits) { double value; memcpy(&value, &bits, 8); return value; }
inline long long __double_as_longlong(double value) { long long bits; memcpy(&bits, &value, 8); return bits; }
