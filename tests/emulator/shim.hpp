// CUDA's device language for g++: the kernels' sources compile as they are, every thread of a block is a fiber, and what
// threads do together is checked (machine.hpp).
#pragma once

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "machine.hpp"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("emulated_shared")))

namespace emulator {

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

template <typename T, typename U>
inline T atomic(T* address, U value, int operation) {
    check_device_memory((int64_t)address, sizeof(T));
    T before = __atomic_load_n(address, __ATOMIC_RELAXED);
    T after = operation == 0 ? (T)(before + (T)value) : (T)(before | (T)value);
    __atomic_store_n(address, after, __ATOMIC_RELAXED);
    return before;
}

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
#define __syncthreads() emulator::block_barrier(__LINE__)
inline void __threadfence() { emulator::fence(); }
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
