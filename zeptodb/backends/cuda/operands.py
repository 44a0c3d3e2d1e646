"""Expressions as kernels take them: columns that are read where they lie, and short programs for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeptodb.backends.cuda.batch import upload_described
from zeptodb.backends.cuda.driver import DeviceArray, Driver
from zeptodb.backends.expression import ColumnRef
from zeptodb.backends.program import Assembler, Node, columns_in
from zeptodb.errors import ZeptoError

Int64Array = npt.NDArray[np.int64]

NOTHING = -1
REGISTER = 5
"""Kinds of operands besides the LOAD opcodes (`kernels/expression.cuh`)."""

MAX_REGISTERS = 24
"""Temporaries of one program that a thread has room for."""

OPERAND_WORDS = 4
_NO_OPERAND = (NOTHING, 0, 0, 0)


class CannotRunError(ZeptoError):
    """The device does not run this operation; the message says why. Another backend does."""


@dataclass(slots=True)
class Operands:
    """Collects the operands of one operation; each is its place among the rows of `table`.

    Attributes:
        columns: what the operands read.
    """

    symbol_column: int
    columns: set[int] = field(default_factory=set)
    _assembler: Assembler = field(init=False)
    _rows: list[tuple[int, int, int, int]] = field(default_factory=lambda: [_NO_OPERAND])
    _places: dict[Node, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with no program."""
        self._assembler = Assembler(symbol_column=self.symbol_column)

    def place(self, node: Node | None) -> int:
        """The operand's place, 0 for none at all."""
        if node is None:
            return 0
        if node not in self._places:
            self._places[node] = len(self._rows)
            self._rows.append(self._row(node))
            self.columns |= columns_in(node)
        return self._places[node]

    def _row(self, node: Node) -> tuple[int, int, int, int]:
        if isinstance(node, ColumnRef):
            return self._assembler.load_opcode(node), node.index, 0, 0
        section = self._assembler.section((node,))
        return REGISTER, section.registers[0], section.low, section.high

    def finish(self) -> Program:
        """The program and the table of operands."""
        program, temporaries = self._assembler.finish()
        if temporaries > MAX_REGISTERS:
            raise CannotRunError(f"an expression needs {temporaries} registers, the device has {MAX_REGISTERS}")
        table = np.array(self._rows, dtype=np.int64)
        is_constant = (table[:, 0] == REGISTER) & (table[:, 1] < 0)
        table[is_constant, 1] = temporaries - 1 - table[is_constant, 1]
        constants = np.ascontiguousarray(program.constants[:, [1, 3]])
        return Program(program.code, constants, program.lists, temporaries, table)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """What the interpreter on the device takes.

    Attributes:
        code, constants, lists, temporaries: as `kernels/expression.cuh` says.
        operands: rows of four words by their places.
    """

    code: Int64Array
    constants: Int64Array
    lists: Int64Array
    temporaries: int
    operands: Int64Array

    def upload(self, driver: Driver, *tables: Int64Array) -> tuple[DeviceArray, ...]:
        """The words that describe the program on the device, and further tables brought along."""
        arrays: Sequence[Int64Array] = (self.code, self.constants, self.lists)
        return upload_described(driver, [*arrays, *tables], self.temporaries)
