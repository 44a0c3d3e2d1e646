// How fibers run; see machine.hpp. Compiled without sanitizers, which are told what they need to know.
#include "machine.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

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

extern "C" char __start_emulated_shared[] __attribute__((weak));
extern "C" char __stop_emulated_shared[] __attribute__((weak));

namespace emulator {

Machine machine;

static void switch_to(Fiber& to, bool is_last = false) {
    Fiber& from = *machine.current;
    machine.current = &to;
    sanitizers::before_switch(from.trace, to.trace, is_last);
#if defined(__x86_64__)
    emulator_switch(&from.stack_pointer, to.stack_pointer);
#else
    swapcontext(&from.context, &to.context);
#endif
    sanitizers::after_switch(machine.current->trace);
}

void fail(const char* format, ...) {
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

static void run_next() {
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

static void make_ready(int index) {
    if (machine.ready_head > 4096) {
        machine.ready.erase(machine.ready.begin(), machine.ready.begin() + machine.ready_head);
        machine.ready_head = 0;
    }
    machine.ready.push_back(index);
}

static void fiber_main() {
    sanitizers::after_switch(machine.current->trace);
    machine.entry(machine.arguments);
    sanitizers::end_thread();
    Fiber& self = *machine.current;
    self.is_done = true;
    machine.done += 1;
    if (machine.at_barrier > 0) fail("has ended while others wait at __syncthreads");
    if (machine.done == machine.threads) switch_to(machine.main, true);
    else run_next();
    abort();
}

static void prepare(Fiber& fiber, int index) {
    if (fiber.stack == nullptr) fiber.stack = (char*)aligned_alloc(64, STACK_BYTES);
    sanitizers::begin_thread(fiber.trace, fiber.stack, STACK_BYTES);
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
    for (int k = 0; k < 6; ++k) *--place = nullptr;
    fiber.stack_pointer = place;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber.context, fiber_main, 0);
#endif
}

// ---- collectives ---------------------------------------------------------------------------------------------------

static bool overlaps_another(const Fiber& self, Kind kind, unsigned mask) {
    for (int i = self.warp * WARP; i < machine.threads && i < (int)(self.warp + 1) * WARP; ++i) {
        const Fiber& other = machine.fibers[i];
        if (other.waits_for == NO_WAIT || other.waits_for == BLOCK_BARRIER || &other == &self) continue;
        if ((other.mask & mask) != 0 && (other.mask != mask || other.waits_for != kind)) return true;
    }
    return false;
}

static void complete(const Fiber& self, Kind kind, unsigned mask) {
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

uint64_t collect(Kind kind, unsigned mask, uint64_t given, int source) {
    Fiber& self = *machine.current;
    if (!((mask >> self.lane) & 1u)) fail("is not in the mask %08x of %s", mask, KIND_NAMES[kind]);
    if (overlaps_another(self, kind, mask)) fail("%s (mask %08x) meets another one", KIND_NAMES[kind], mask);
    if (kind == SHUFFLE && !((mask >> source) & 1u)) fail("reads lane %d, outside the mask %08x", source, mask);
    self.waits_for = kind;
    self.mask = mask;
    self.given = given;
    self.source = source;
    self.barrier = nullptr;
    unsigned arrived = 0;
    for (int lane = 0; lane < WARP; ++lane) {
        int index = self.warp * WARP + lane;
        if (index >= machine.threads) break;
        const Fiber& other = machine.fibers[index];
        if (other.waits_for != kind || other.mask != mask) continue;
        arrived |= 1u << lane;
        if (other.barrier != nullptr) self.barrier = other.barrier;
    }
    // A mere shuffle or ballot orders no memory.
    if (kind == WARP_BARRIER) {
        if (self.barrier == nullptr) self.barrier = sanitizers::barrier();
        sanitizers::arrive(self.barrier);
    }
    if (arrived == mask) complete(self, kind, mask);
    else run_next();
    if (kind == WARP_BARRIER) sanitizers::leave(self.barrier);
    return self.taken;
}

void block_barrier(int line) {
    Fiber& self = *machine.current;
    if (machine.done > 0) fail("comes to __syncthreads after %d threads have ended", machine.done);
    if (machine.at_barrier == 0) machine.barrier_line = line;
    if (line != machine.barrier_line) {
        fail("is at the __syncthreads of line %d, others are at that of line %d", line, machine.barrier_line);
    }
    self.waits_for = BLOCK_BARRIER;
    self.mask = ~0u;
    if (machine.at_barrier == 0) machine.barrier = sanitizers::barrier();
    void* barrier = machine.barrier;
    sanitizers::arrive(barrier);
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
    sanitizers::leave(barrier);
}

void fence() { sanitizers::fence(); }

// ---- memory --------------------------------------------------------------------------------------------------------

void find_device_memory(int64_t address, int64_t bytes) {
    if (address >= (int64_t)__start_emulated_shared && address + bytes <= (int64_t)__stop_emulated_shared) return;
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

// ---- launches ------------------------------------------------------------------------------------------------------

static void run_block(unsigned block) {
    machine.block = Index{block, 0, 0};
    machine.done = machine.at_barrier = 0;
    machine.ready.clear();
    machine.ready_head = 0;
    size_t shared_bytes = __stop_emulated_shared - __start_emulated_shared;
    sanitizers::begin_block(__start_emulated_shared, shared_bytes, machine.threads);
    if (shared_bytes > 0) memset(__start_emulated_shared, 0xA5, shared_bytes);
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

int launch(
    const Kernel& kernel, int64_t blocks, int64_t first, int64_t count, int64_t threads, void** arguments,
    const int64_t* extents, int64_t extent_count, uint64_t seed
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
    machine.current = &machine.main;
    sanitizers::begin_launch(machine.main.trace);
    uint64_t turn = machine.next_random() % count;
    bool is_reversed = machine.next_random() & 1;
    for (int64_t b = 0; b < count && !machine.has_failed; ++b) {
        run_block((unsigned)(first + (turn + (is_reversed ? count - b : b)) % count));
    }
    sanitizers::end_launch();
    return machine.has_failed;
}

}  // namespace emulator
