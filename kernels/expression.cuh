// The interpreter of programs: one section for one row, registers in the thread's own memory.
//
// Rules, as on the CPU: NULL in, NULL out, except AND, OR (Kleene) and IS NULL. NaN equals NaN and is greater than
// every number. Integers that leave int64, or a division by zero, set the overflow flag, unless the result is NULL.
#pragma once

#include "device.cuh"

// Opcodes of zeptodb/backends/program.py.
enum {
    LOAD_64 = 0, LOAD_INT32 = 1, LOAD_FLOAT32 = 2, LOAD_BOOL = 3, LOAD_SYMBOL = 4,
    ADD_INT = 10, SUBTRACT_INT = 11, MULTIPLY_INT = 12, DIVIDE_INT = 13, MODULO_INT = 14, BUCKET = 15,
    ADD_FLOAT = 20, SUBTRACT_FLOAT = 21, MULTIPLY_FLOAT = 22, DIVIDE_FLOAT = 23, TO_FLOAT = 24, BOOL_TO_INT = 25,
    EQUAL_INT = 30, NOT_EQUAL_INT = 31, LESS_INT = 32, LESS_EQUAL_INT = 33, IN_INT = 34,
    EQUAL_FLOAT = 40, NOT_EQUAL_FLOAT = 41, LESS_FLOAT = 42, LESS_EQUAL_FLOAT = 43, IN_FLOAT = 44,
    AND = 50, OR = 51, NOT = 52, IS_NULL = 53, NULL_WHERE_NULL = 54
};

// What an operand is: nothing, a column (by one of the LOAD opcodes), or a register of a section.
enum { NOTHING = -1, REGISTER = 5 };

// Temporaries that a section may use; programs that need more run on the CPU.
#define MAX_REGISTERS 24

// A program in device memory: instructions of six words, constants of two (bits, 1 when not NULL), lists of IN.
struct Program {
    const int64* code;
    const int64* constants;
    const int64* lists;
    int64 temporaries;
};

// A value and whether it is not NULL.
struct Value {
    int64 bits;
    bool is_valid;
};

struct Registers {
    int64 bits[MAX_REGISTERS];
    unsigned valid;
};

__device__ inline Program program_at(const int64* words) {
    Program program;
    program.code = reinterpret_cast<const int64*>(words[1]);
    program.constants = reinterpret_cast<const int64*>(words[2]);
    program.lists = reinterpret_cast<const int64*>(words[3]);
    program.temporaries = words[0];
    return program;
}

__device__ inline Value register_value(const Program& program, const Registers& registers, int64 number) {
    Value value;
    if (number < program.temporaries) {
        value.bits = registers.bits[number];
        value.is_valid = (registers.valid >> number) & 1u;
    } else {
        const int64* constant = program.constants + 2 * (number - program.temporaries);
        value.bits = constant[0];
        value.is_valid = constant[1] != 0;
    }
    return value;
}

__device__ inline int64 load_bits(int64 opcode, int64 address, int64 row) {
    if (opcode == LOAD_64) return at<const int64>(address + 8 * row, 1)[0];
    if (opcode == LOAD_INT32) return at<const int>(address + 4 * row, 1)[0];
    if (opcode == LOAD_FLOAT32) return as_bits((double)at<const float>(address + 4 * row, 1)[0]);
    return at<const unsigned char>(address + row, 1)[0];
}

__device__ inline Value load_column(const Columns& columns, int64 opcode, int64 column, int64 segment, int64 row) {
    Value value;
    if (opcode == LOAD_SYMBOL) {
        value.bits = columns.symbols[segment];
        value.is_valid = true;
        return value;
    }
    int64 place = column * columns.segments + segment;
    int64 validity = columns.validity[place];
    value.bits = load_bits(opcode, columns.addresses[place], row);
    value.is_valid = validity == 0 || at<const unsigned char>(validity + row, 1)[0] != 0;
    return value;
}

__device__ inline bool is_below(double a, double b) { return a < b || (a == a && is_nan(b)); }

__device__ inline bool is_same(double a, double b) { return a == b || (is_nan(a) && is_nan(b)); }

__device__ inline bool is_in_integers(int64 value, const int64* list, int64 length) {
    int64 low = 0, high = length;
    while (low < high) {
        int64 middle = (low + high) >> 1;
        if (list[middle] < value) low = middle + 1;
        else high = middle;
    }
    return low < length && list[low] == value;
}

// Floats ascend, NaN last.
__device__ inline bool is_in_floats(double value, const int64* list, int64 length) {
    int64 low = 0, high = length;
    while (low < high) {
        int64 middle = (low + high) >> 1;
        if (is_below(as_double(list[middle]), value)) low = middle + 1;
        else high = middle;
    }
    return low < length && is_same(as_double(list[low]), value);
}

__device__ inline int64 compute_int(int64 opcode, int64 a, int64 b, bool& overflows) {
    if (opcode == ADD_INT) {
        int64 sum = (int64)((uint64)a + (uint64)b);
        overflows = ((a ^ sum) & (b ^ sum)) < 0;
        return sum;
    }
    if (opcode == SUBTRACT_INT) {
        int64 difference = (int64)((uint64)a - (uint64)b);
        overflows = ((a ^ b) & (a ^ difference)) < 0;
        return difference;
    }
    if (opcode == MULTIPLY_INT) {
        int64 product = (int64)((uint64)a * (uint64)b);
        overflows = (__int128)a * b != (__int128)product;
        return product;
    }
    overflows = b == 0 || (b == -1 && a == INT64_MIN_VALUE);
    if (overflows) b = 1;
    return opcode == DIVIDE_INT ? a / b : a % b;
}

__device__ inline int64 compute_float(int64 opcode, double a, double b) {
    switch (opcode) {
        case ADD_FLOAT: return as_bits(a + b);
        case SUBTRACT_FLOAT: return as_bits(a - b);
        case MULTIPLY_FLOAT: return as_bits(a * b);
        case DIVIDE_FLOAT: return as_bits(a / b);
        case EQUAL_FLOAT: return is_same(a, b);
        case NOT_EQUAL_FLOAT: return !is_same(a, b);
        case LESS_FLOAT: return is_below(a, b);
        default: return a <= b || is_nan(b);
    }
}

__device__ inline int64 compare_int(int64 opcode, int64 a, int64 b) {
    if (opcode == EQUAL_INT) return a == b;
    if (opcode == NOT_EQUAL_INT) return a != b;
    return opcode == LESS_INT ? a < b : a <= b;
}

// One instruction that is neither a load, nor AND, OR or IS NULL.
__device__ inline int64 compute(
    const Program& program, const int64* instruction, int64 a, int64 b, bool& overflows
) {
    int64 opcode = instruction[0];
    if (opcode <= MODULO_INT) return compute_int(opcode, a, b, overflows);
    if (opcode == BUCKET) {
        int64 beyond = floor_mod(a, instruction[4]) - instruction[5];
        if (beyond < 0) beyond += instruction[4];
        int64 floor = (int64)((uint64)a - (uint64)beyond);
        overflows = floor > a;
        return floor;
    }
    if (opcode == TO_FLOAT) return as_bits((double)a);
    if (opcode == BOOL_TO_INT || opcode == NULL_WHERE_NULL) return a;
    if (opcode == NOT) return a == 0;
    if (opcode == IN_INT) return is_in_integers(a, program.lists + instruction[4], instruction[5]);
    if (opcode == IN_FLOAT) return is_in_floats(as_double(a), program.lists + instruction[4], instruction[5]);
    if (opcode >= EQUAL_INT && opcode <= LESS_EQUAL_INT) return compare_int(opcode, a, b);
    return compute_float(opcode, as_double(a), as_double(b));
}

__device__ inline bool is_unary(int64 opcode) {
    return opcode == BUCKET || opcode == TO_FLOAT || opcode == BOOL_TO_INT || opcode == NOT || opcode == IN_INT ||
        opcode == IN_FLOAT;
}

// Kleene's AND and OR.
__device__ inline Value decide(int64 opcode, const Value& left, const Value& right) {
    Value result;
    bool decisive = opcode == OR;
    bool is_decided = (left.is_valid && (left.bits != 0) == decisive) || (right.is_valid && (right.bits != 0) == decisive);
    result.bits = is_decided ? decisive : !decisive;
    result.is_valid = is_decided || (left.is_valid && right.is_valid);
    return result;
}

// Run instructions `low` to `high` for one row; whether integer arithmetic left int64.
__device__ __noinline__ bool run_section(
    const Program& program, int64 low, int64 high, const Columns& columns, int64 segment, int64 row,
    Registers& registers
) {
    bool has_overflow = false;
    registers.valid = 0;
    for (int64 k = low; k < high; ++k) {
        const int64* instruction = program.code + 6 * k;
        int64 opcode = instruction[0], result = instruction[1];
        Value value;
        if (opcode <= LOAD_SYMBOL) {
            value = load_column(columns, opcode, instruction[2], segment, row);
        } else {
            Value left = register_value(program, registers, instruction[2]);
            if (opcode == IS_NULL) {
                value.bits = !left.is_valid;
                value.is_valid = true;
            } else if (is_unary(opcode)) {
                bool overflows = false;
                value.bits = compute(program, instruction, left.bits, 0, overflows);
                value.is_valid = left.is_valid;
                has_overflow |= overflows && value.is_valid;
            } else {
                Value right = register_value(program, registers, instruction[3]);
                if (opcode == AND || opcode == OR) {
                    value = decide(opcode, left, right);
                } else {
                    bool overflows = false;
                    value.bits = compute(program, instruction, left.bits, right.bits, overflows);
                    value.is_valid = left.is_valid && right.is_valid;
                    has_overflow |= overflows && value.is_valid;
                }
            }
        }
        registers.bits[result] = value.bits;
        registers.valid = (registers.valid & ~(1u << result)) | ((unsigned)value.is_valid << result);
    }
    return has_overflow;
}

// An operand of four words: kind, column or register, and the section that computes the register.
struct Operand {
    int64 kind;
    int64 what;
    int64 low;
    int64 high;
};

__device__ inline Operand operand_at(const int64* words) {
    Operand operand;
    operand.kind = words[0];
    operand.what = words[1];
    operand.low = words[2];
    operand.high = words[3];
    return operand;
}

__device__ inline Value operand_value(
    const Program& program, const Operand& operand, const Columns& columns, int64 segment, int64 row, bool& overflows
) {
    if (operand.kind != REGISTER) return load_column(columns, operand.kind, operand.what, segment, row);
    Registers registers;
    overflows |= run_section(program, operand.low, operand.high, columns, segment, row, registers);
    return register_value(program, registers, operand.what);
}
