// AggregateScan: pieces of segments into partial results, tiles of a piece into one, partial results into groups.
//
// NaN counts as the greatest number, NULLs are skipped except by FIRST and LAST, ties in time go by the order of
// partial results; no rows leave the empty state. Integer sums are exact, float sums compensated in a fixed order.

#include "tile.cuh"

#define SECTION_WORDS 6
#define PRIMITIVE_WORDS 10

// What aggregate_tiles and aggregate_short take.
struct Tables {
    const int64* sections;
    int64 section_count;
    const int64* primitives;
    const int64* listed_rows;
    const int64* listed_segments;
    int64* partials;
    int64 items;
};

// Add the rows `row` to `end` of a segment (listed: places of a list) to the states of an item, tile by tile.
template <typename Workers>
__device__ inline bool aggregate_item(
    const Context<Workers>& context, const Tables& tables, int64 segment, int64 row, int64 end, int64 item
) {
    bool overflows = false, is_first = true;
    do {
        Tile tile = {};
        tile.segment = segment;
        tile.row = row;
        tile.rows = tables.listed_rows == nullptr ? nullptr : tables.listed_rows + row;
        tile.segments = tables.listed_segments + row;
        tile.count = greatest_of(0, least_of(end, (row / TILE_ROWS + 1) * TILE_ROWS) - row);
        for (int64 s = 0; s < tables.section_count; ++s) {
            const int64* section = tables.sections + SECTION_WORDS * s;
            choose(context, operand_at(section), tile, overflows);
            for (int64 k = section[4]; k < section[5]; ++k) {
                const int64* primitive = tables.primitives + PRIMITIVE_WORDS * k;
                int64 opcode = primitive[0], slot = primitive[1];
                State state = empty_state(opcode);
                if (!is_first && context.team.lane == 0) {
                    state = load_state(opcode, tables.partials, tables.items, slot, item);
                }
                if (opcode == FIRST || opcode == LAST) {
                    int64 found = end_of(context.team, tile, opcode == FIRST);
                    State given = {{found < 0 ? -1 : row + found}};
                    merge(opcode, state, given);
                } else if (tile.count > 0) {
                    take(context, tile, opcode, operand_at(primitive + 2), operand_at(primitive + 6), state, overflows);
                }
                if (context.team.lane == 0) store_state(opcode, state, tables.partials, tables.items, slot, item);
            }
        }
        is_first = false;
        row += tile.count;
    } while (row < end);
    return overflows;
}

// Fill partials[word][item] for `items` items. Sections are rows of (predicate's operand, first primitive, after the
// last one), primitives rows of (opcode, slot, left operand, right operand). A team works on an item, tile by tile.
// With a list pieces are places in it, of which FIRST and LAST keep one. Pieces of at most `short_rows` rows are left to
// aggregate_short. flags[0] becomes 1 when integer arithmetic left int64.
extern "C" __global__ void aggregate_tiles(
    const int64* column_words, const int64* program_words, const int64* sections, int64 section_count,
    const int64* primitives, const int64* segments, const int64* starts, const int64* ends, int64 pieces,
    const int64* tile_bounds, int64 items, const int64* listed_rows, const int64* listed_segments, int64 short_rows,
    int64* partials, unsigned long long* flags
) {
    int64 item = thread_index() / TEAM;
    if (item >= items) return;
    int64 piece, row, end;
    find_item(starts, ends, tile_bounds, pieces, item, piece, row, end);
    if (end - row <= short_rows) return;
    Context<Team> context = {columns_at(column_words), program_at(program_words), team_of_thread()};
    Tables tables = {sections, section_count, primitives, listed_rows, listed_segments, partials, items};
    int64 segment = listed_rows == nullptr ? segments[piece] : -1;
    if (aggregate_item(context, tables, segment, row, end, item)) atomicOr(flags, 1ULL);
}

// As aggregate_tiles, of pieces of at most `short_rows` (no more than 64) rows, each by one thread.
extern "C" __global__ void aggregate_short(
    const int64* column_words, const int64* program_words, const int64* sections, int64 section_count,
    const int64* primitives, const int64* segments, const int64* starts, const int64* ends, int64 pieces,
    const int64* listed_rows, const int64* listed_segments, int64 short_rows, int64* partials,
    unsigned long long* flags
) {
    int64 piece = thread_index();
    if (piece >= pieces || ends[piece] - starts[piece] > short_rows) return;
    Context<Solo> context = {columns_at(column_words), program_at(program_words), Solo()};
    Tables tables = {sections, section_count, primitives, listed_rows, listed_segments, partials, pieces};
    int64 segment = listed_rows == nullptr ? segments[piece] : -1;
    if (aggregate_item(context, tables, segment, starts[piece], ends[piece], piece)) atomicOr(flags, 1ULL);
}

// Fill folded[word][whole] from the partial results of its parts, bounds[whole] to bounds[whole + 1] (exclusive), in
// order: tiles of a piece, or pieces of a range. A thread per whole and primitive.
extern "C" __global__ void fold_parts(
    const int64* primitives, int64 primitive_count, const int64* bounds, int64 wholes, const int64* partials,
    int64 parts, int64* folded
) {
    int64 place = thread_index();
    if (place >= wholes * primitive_count) return;
    const int64* primitive = primitives + PRIMITIVE_WORDS * (place / wholes);
    int64 opcode = primitive[0], slot = primitive[1], whole = place % wholes;
    State state = empty_state(opcode);
    for (int64 part = bounds[whole]; part < bounds[whole + 1]; ++part) {
        merge(opcode, state, load_state(opcode, partials, parts, slot, part));
    }
    store_state(opcode, state, folded, wholes, slot, whole);
}

// Fill words[word][group] from the partial results (of ranges) order[bounds[group]] to order[bounds[group + 1]] (exclusive; no order:
// the places themselves). FIRST and LAST become the index of the partial result with the earliest or latest time in
// column `time_column` (-1: all times are equal), ties by the order. A thread per group and primitive.
extern "C" __global__ void combine_groups(
    const int64* column_words, int64 time_column, const int64* primitives, int64 primitive_count, const int64* segments,
    const int64* order, const int64* bounds, int64 groups, const int64* partials, int64 pieces, int64* words
) {
    int64 place = thread_index();
    if (place >= groups * primitive_count) return;
    const int64* primitive = primitives + PRIMITIVE_WORDS * (place / groups);
    int64 opcode = primitive[0], slot = primitive[1], group = place % groups, best = 0;
    Columns columns = columns_at(column_words);
    State state = empty_state(opcode);
    for (int64 position = bounds[group]; position < bounds[group + 1]; ++position) {
        int64 index = order == nullptr ? position : order[position];
        State given = load_state(opcode, partials, pieces, slot, index);
        if (opcode != FIRST && opcode != LAST) {
            merge(opcode, state, given);
            continue;
        }
        if (given.words[0] < 0) continue;
        int64 time = 0;
        if (time_column >= 0) time = load_column(columns, LOAD_64, time_column, segments[index], given.words[0]).bits;
        bool is_better = opcode == FIRST ? time < best : time >= best;
        if (state.words[0] < 0 || is_better) {
            state.words[0] = index;
            best = time;
        }
    }
    store_state(opcode, state, words, groups, slot, group);
}

// The segment and the row (-1: none) behind each group's FIRST or LAST in `slot`. `found` holds the groups' words, or
// null when each partial result is a group of its own.
extern "C" __global__ void locate_ends(
    int64 slot, const int64* found, int64 groups, const int64* partials, int64 pieces, const int64* segments,
    int64* end_segments, int64* end_rows
) {
    int64 group = thread_index();
    if (group >= groups) return;
    int64 index = found == nullptr ? group : found[slot * groups + group];
    end_segments[group] = index < 0 ? -1 : segments[index];
    end_rows[group] = index < 0 ? -1 : partials[slot * pieces + index];
}

// As locate_ends, of groups whose rows stand in a list.
extern "C" __global__ void locate_listed_ends(
    int64 slot, const int64* words, int64 groups, const int64* listed_segments, const int64* listed_rows,
    int64* end_segments, int64* end_rows
) {
    int64 group = thread_index();
    if (group >= groups) return;
    int64 place = words[slot * groups + group];
    end_segments[group] = place < 0 ? -1 : listed_segments[place];
    end_rows[group] = place < 0 ? -1 : listed_rows[place];
}
