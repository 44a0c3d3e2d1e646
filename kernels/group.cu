// Groups of things that have equal keys, once their order by key is known; and the rows of keys.
//
// Places of groups are (value - least) / width of each key, NULL after all others, the last key varying fastest. Order
// is stable, so that rows of a group keep the order of the scan.

#include "expression.cuh"

#define KEY_WORDS 8

// changes[i] becomes 1 where keys[order[i]] differs from the one before (no order: the places themselves).
extern "C" __global__ void mark_changes(const int64* keys, const int64* order, int64 count, int64* changes) {
    int64 i = thread_index();
    if (i >= count) return;
    int64 own = order == nullptr ? i : order[i], before = order == nullptr ? i - 1 : order[greatest_of(i - 1, 0)];
    changes[i] = i == 0 || keys[own] != keys[before];
}

// bounds[group] and group_keys[group] from the changes and the sums of those before each place.
extern "C" __global__ void bound_groups(
    const int64* keys, const int64* order, int64 count, const int64* changes, const int64* sums, int64 groups,
    int64* bounds, int64* group_keys
) {
    int64 i = thread_index();
    if (i == 0) bounds[groups] = count;
    if (i >= count || changes[i] == 0) return;
    bounds[sums[i]] = i;
    group_keys[sums[i]] = keys[order == nullptr ? i : order[i]];
}

// out[i] = source[order[i]].
extern "C" __global__ void gather_words(const int64* source, const int64* order, int64 count, int64* out) {
    int64 i = thread_index();
    if (i < count) out[i] = source[order[i]];
}

// counts[i] becomes the tiles that the rows starts[i] to ends[i] (exclusive) touch.
extern "C" __global__ void count_tiles(const int64* starts, const int64* ends, int64 pieces, int64* counts) {
    int64 i = thread_index();
    if (i < pieces) counts[i] = ends[i] > starts[i] ? (ends[i] - 1) / TILE_ROWS - starts[i] / TILE_ROWS + 1 : 0;
}

// The time of each row of a list; `time_row` holds the address of each segment's times.
extern "C" __global__ void gather_times(
    const int64* time_row, const int64* segments, const int64* rows, int64 count, int64* times
) {
    int64 i = thread_index();
    if (i < count) times[i] = at<const int64>(time_row[segments[i]] + 8 * rows[i], 1)[0];
}

// The group's place of every row, and the row and its segment. Part k of the rows (bounds[k] to bounds[k + 1]) lies in
// segments[k]; its rows are listed or follow one another from starts[k] on; its groups begin at place k * part_stride.
// Keys are rows of (operand, least, width, stride, place of NULL). flags[0] becomes 1 when integer arithmetic left int64.
extern "C" __global__ void find_groups(
    const int64* column_words, const int64* program_words, const int64* keys, int64 key_count, const int64* segments,
    const int64* starts, const int64* bounds, int64 parts, const int64* listed, int64 part_stride, int64 count,
    int64* places, int64* rows, int64* row_segments, unsigned long long* flags
) {
    int64 i = thread_index();
    if (i >= count) return;
    Columns columns = columns_at(column_words);
    Program program = program_at(program_words);
    int64 part = part_of(bounds, parts, i), segment = segments[part];
    int64 row = listed != nullptr ? listed[i] : starts[part] + i - bounds[part];
    int64 place = part * part_stride;
    bool overflows = false;
    for (int64 k = 0; k < key_count; ++k) {
        const int64* key = keys + KEY_WORDS * k;
        Value value = operand_value(program, operand_at(key), columns, segment, row, overflows);
        place += (value.is_valid ? (value.bits - key[4]) / key[5] : key[7]) * key[6];
    }
    places[i] = place;
    rows[i] = row;
    row_segments[i] = segment;
    if (overflows) atomicOr(flags, 1ULL);
}
