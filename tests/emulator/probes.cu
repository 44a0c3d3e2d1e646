// Kernels that show what the emulator and the sanitizers see: barriers, shared memory, fences and atomics.
//
// They are for tests only. ci/planted_bugs takes a line away here and there, and each time somebody has to notice.

typedef long long int64;

#define PROBE_THREADS 64

// sums[block] = the sum of the block's values, differences[block] = the sum of each value less its neighbour's to the right
// (0 beyond the block's end); through shared memory that is used twice.
extern "C" __global__ void probe_block(const int64* values, int64 count, int64* sums, int64* differences) {
    __shared__ int64 shared[PROBE_THREADS];
    int64 place = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    int thread = threadIdx.x;
    int64 own = place < count ? values[place] : 0;
    shared[thread] = own;
    __syncthreads();
    int64 difference = own - (thread + 1 < PROBE_THREADS ? shared[thread + 1] : 0);
    __syncthreads();
    for (int distance = PROBE_THREADS / 2; distance > 0; distance >>= 1) {
        if (thread < distance) shared[thread] += shared[thread + distance];
        __syncthreads();
    }
    if (thread == 0) sums[blockIdx.x] = shared[0];
    __syncthreads();
    shared[thread] = difference;
    __syncthreads();
    for (int distance = PROBE_THREADS / 2; distance > 0; distance >>= 1) {
        if (thread < distance) shared[thread] += shared[thread + distance];
        __syncthreads();
    }
    if (thread == 0) differences[blockIdx.x] = shared[0];
}

// turned[place] = the value at the opposite place of the warp's 32; through shared memory, by warps for themselves.
extern "C" __global__ void probe_warp(const int64* values, int64 count, int64* turned) {
    __shared__ int64 shared[PROBE_THREADS];
    int64 place = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    int first = threadIdx.x / 32 * 32, lane = threadIdx.x % 32;
    shared[first + lane] = place < count ? values[place] : 0;
    __syncwarp();
    if (place < count) turned[place] = shared[first + 31 - lane];
}

// counts[value] += 1 for values in [0, 64), counted per block in shared memory first.
extern "C" __global__ void probe_counts(const int64* values, int64 count, unsigned long long* counts) {
    __shared__ unsigned long long shared[PROBE_THREADS];
    shared[threadIdx.x] = 0;
    __syncthreads();
    int64 place = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (place < count) atomicAdd(&shared[values[place]], 1ULL);
    __syncthreads();
    if (shared[threadIdx.x] > 0) atomicAdd(&counts[threadIdx.x], shared[threadIdx.x]);
}

// total[0] = the sum of all values: each block leaves its own in partials, the one that ends last adds them up in order.
extern "C" __global__ void probe_total(
    const int64* values, int64 count, int64* partials, unsigned long long* ended, int64* total
) {
    __shared__ int is_last;
    int64 first = (int64)blockIdx.x * blockDim.x;
    if (threadIdx.x == 0) {
        int64 sum = 0;
        for (int64 place = first; place < first + PROBE_THREADS && place < count; ++place) sum += values[place];
        partials[blockIdx.x] = sum;
        __threadfence();
        is_last = atomicAdd(ended, 1ULL) == gridDim.x - 1;
    }
    __syncthreads();
    if (!is_last || threadIdx.x != 1) return;
    __threadfence();
    int64 sum = 0;
    for (unsigned block = 0; block < gridDim.x; ++block) sum += partials[block];
    total[0] = sum;
}
