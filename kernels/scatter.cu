// What came up in one copy, to its places in the device's image of the arenas.

#include "device.cuh"

// Copy sizes[i] bytes from packed + offsets[i] to targets[i], a warp per range; packed, offsets and targets are aligned
// to 8 bytes where the size is a multiple of 8.
extern "C" __global__ void scatter_ranges(
    const unsigned char* packed, const int64* offsets, const int64* targets, const int64* sizes, int64 ranges
) {
    int64 range = thread_index() / 32;
    if (range >= ranges) return;
    int lane = threadIdx.x & 31;
    int64 size = sizes[range];
    const unsigned char* source = packed + offsets[range];
    unsigned char* target = at<unsigned char>(targets[range], size);
    bool is_aligned = ((reinterpret_cast<int64>(source) | targets[range] | size) & 7) == 0;
    if (is_aligned) {
        for (int64 i = lane; i < size / 8; i += 32) {
            reinterpret_cast<int64*>(target)[i] = reinterpret_cast<const int64*>(source)[i];
        }
        return;
    }
    for (int64 i = lane; i < size; i += 32) target[i] = source[i];
}
