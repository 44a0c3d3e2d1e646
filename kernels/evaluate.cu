// Row-wise results: the values of expressions for rows that follow one another or stand in a list.
//
// A NULL's value is what is stored under it; row -1 is NULL in every output, with value 0.

#include "expression.cuh"

#define OUTPUT_WORDS 7

__device__ inline void write_value(int64 kind, int64 width, int64 address, int64 place, int64 bits) {
    if (width == 8) at<int64>(address + 8 * place, 1)[0] = bits;
    else if (width == 1) at<unsigned char>(address + place, 1)[0] = (unsigned char)bits;
    else if (kind == LOAD_FLOAT32) at<float>(address + 4 * place, 1)[0] = (float)as_double(bits);
    else at<int>(address + 4 * place, 1)[0] = (int)bits;
}

// Write the `total` rows from place `first` on of every output. Outputs are rows of (operand, bytes per value, address of the values, address of
// the validity bytes or 0). Place p belongs to the part with bounds[part] <= p and lies in segments[part]; without
// bounds it has segments[p]. Its row is listed[p], or without a list starts[part] + p - bounds[part].
// flags[0] becomes 1 when integer arithmetic left int64.
extern "C" __global__ void evaluate_rows(
    const int64* column_words, const int64* program_words, const int64* outputs, int64 output_count,
    const int64* segments, const int64* starts, const int64* bounds, int64 parts, const int64* listed, int64 first,
    int64 total, unsigned long long* flags
) {
    Columns columns = columns_at(column_words);
    Program program = program_at(program_words);
    bool overflows = false;
    for (int64 out = thread_index(); out < total; out += thread_count()) {
        int64 place = first + out;
        int64 part = bounds == nullptr ? place : part_of(bounds, parts, place);
        int64 segment = segments[part];
        int64 row = listed != nullptr ? listed[place] : starts[part] + place - bounds[part];
        for (int64 k = 0; k < output_count; ++k) {
            const int64* output = outputs + OUTPUT_WORDS * k;
            Value value = {0, false};
            if (segment >= 0 && row >= 0) {
                value = operand_value(program, operand_at(output), columns, segment, row, overflows);
            }
            write_value(output[0], output[4], output[5], out, value.bits);
            if (output[6] != 0) at<unsigned char>(output[6] + out, 1)[0] = value.is_valid;
        }
    }
    if (overflows) atomicOr(flags, 1ULL);
}
