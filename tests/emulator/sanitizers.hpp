// What the sanitizers are told of fibers, barriers and memory; nothing in a plain build.
//
// The machine is compiled without instrumentation and only the kernels with it, so that the sanitizers see what kernels
// do and not how they are run. EMULATOR_ADDRESS or EMULATOR_THREAD says which sanitizer the kernels have.
//
// For ThreadSanitizer every thread of every block is a fiber of its own, ordered after the host's work before the
// launch and before its work after it, and among one another by barriers and fences alone: threads of two blocks by
// nothing else. Each generation of a barrier is an object of its own, so that what a thread does after a barrier is not
// taken for what it did before it.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(EMULATOR_ADDRESS)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(EMULATOR_THREAD)
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_java_init(uintptr_t begin, uintptr_t size);
extern "C" void __tsan_java_alloc(uintptr_t begin, uintptr_t size);
#endif

namespace emulator::sanitizers {

// What is kept per fiber; the main one's stack is found out at the first switch away from it.
struct Trace {
    void* state = nullptr;
    const void* stack = nullptr;
    size_t stack_bytes = 0;
};

#if defined(EMULATOR_ADDRESS)

inline Trace* switched_from;

inline void begin_launch(Trace&) {}
inline void end_launch() {}
inline void begin_block(char*, size_t, size_t) {}
inline void end_thread() {}
inline void begin_thread(Trace& trace, char* stack, size_t bytes) {
    __asan_unpoison_memory_region(stack, bytes);
    trace = {nullptr, stack, bytes};
}
inline void before_switch(Trace& from, const Trace& to, bool is_last) {
    switched_from = &from;
    __sanitizer_start_switch_fiber(is_last ? nullptr : &from.state, to.stack, to.stack_bytes);
}
inline void after_switch(const Trace& now) {
    const void* stack;
    size_t bytes;
    __sanitizer_finish_switch_fiber(now.state, &stack, &bytes);
    switched_from->stack = stack;
    switched_from->stack_bytes = bytes;
}
inline void* barrier() { return nullptr; }
inline void arrive(void*) {}
inline void leave(void*) {}
inline void fence() {}

#elif defined(EMULATOR_THREAD)

constexpr size_t MOST_FIBERS = 2048;  // each has mappings of its own, of which a process may have 65,530
constexpr size_t OBJECTS = 4096;
constexpr size_t USED_STACK_BYTES = 32 * 1024;

inline void* fibers[MOST_FIBERS];
inline size_t fiber_count = 0, last_object = 0;
inline uint64_t objects[OBJECTS], launch_object, fence_object;

// The shadow of memory that begins a new life: what others did to it before is no race.
inline void forget(const void* begin, size_t bytes) {
    static bool is_first = true;
    if (is_first) __tsan_java_init(8, (uintptr_t)1 << 47);
    is_first = false;
    __tsan_java_alloc(((uintptr_t)begin + 7) / 8 * 8, bytes / 8 * 8);
}
inline void drop_fibers() {
    while (fiber_count > 0) __tsan_destroy_fiber(fibers[--fiber_count]);
}
inline void begin_launch(Trace& main) { main.state = __tsan_get_current_fiber(); }
inline void end_launch() {
    __tsan_acquire(&launch_object);
    drop_fibers();
}
inline void begin_block(char* shared, size_t bytes, size_t threads) {
    if (bytes > 0) forget(shared, bytes);
    if (fiber_count + threads > MOST_FIBERS) drop_fibers();  // a large grid: blocks far apart are not compared
}
inline void end_thread() { __tsan_release(&launch_object); }
inline void begin_thread(Trace& trace, char* stack, size_t bytes) {
    forget(stack + bytes - USED_STACK_BYTES, USED_STACK_BYTES);
    trace.state = fibers[fiber_count++] = __tsan_create_fiber(0);
}
inline void before_switch(Trace&, const Trace& to, bool) {
    __tsan_switch_to_fiber(to.state, __tsan_switch_to_fiber_no_sync);
}
inline void after_switch(const Trace&) {}
inline void* barrier() { return &objects[++last_object % OBJECTS]; }
inline void arrive(void* object) { __tsan_release(object); }
inline void leave(void* object) { __tsan_acquire(object); }
inline void fence() {
    __tsan_acquire(&fence_object);
    __tsan_release(&fence_object);
}

#else

inline void begin_launch(Trace&) {}
inline void end_launch() {}
inline void begin_block(char*, size_t, size_t) {}
inline void end_thread() {}
inline void begin_thread(Trace&, char*, size_t) {}
inline void before_switch(Trace&, const Trace&, bool) {}
inline void after_switch(const Trace&) {}
inline void* barrier() { return nullptr; }
inline void arrive(void*) {}
inline void leave(void*) {}
inline void fence() {}

#endif

}  // namespace emulator::sanitizers
