"""The operations of :mod:`.simd` as LLVM code.

A Numba *intrinsic* is a function that writes the compiler's intermediate code
itself.  Its outer part sees the types of the arguments and returns the type of
the result; its inner part, ``codegen``, gets the values and emits instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

from minifbi.backends.numba_kernels.machine import VECTOR_BYTES


class VectorType(types.Type):
    """Numba's name for an LLVM vector of floats."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.lanes = VECTOR_BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"vector({self.lanes} x {dtype})")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: VectorType) -> None:
        element = ir.FloatType() if fe_type.dtype.bitwidth == 32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


# ---- pieces of LLVM code -------------------------------------------------------------


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index], inbounds=True)


def _at(builder: Any, pointer: Any, offset: Any) -> Any:
    return builder.gep(pointer, [offset], inbounds=True)


def _load(builder: Any, pointer: Any, llvm_vector: Any) -> Any:
    element_bytes = 4 if isinstance(llvm_vector.element, ir.FloatType) else 8
    # only the alignment of one element is promised: a batch may have any size
    return builder.load(builder.bitcast(pointer, llvm_vector.as_pointer()), align=element_bytes)


def _store(builder: Any, value: Any, pointer: Any) -> None:
    element_bytes = 4 if isinstance(value.type.element, ir.FloatType) else 8
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=element_bytes)


def _spread(builder: Any, scalar: Any, llvm_vector: Any) -> Any:
    """Copy one number into all lanes."""
    undefined = ir.Constant(llvm_vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    picks = ir.Constant(ir.VectorType(ir.IntType(32), llvm_vector.count), [0] * llvm_vector.count)
    return builder.shuffle_vector(first, undefined, picks)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in one instruction and one rounding, where the machine has it."""
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(a.type, (a.type, a.type, a.type)),
        f"llvm.fmuladd.v{a.type.count}f{32 if isinstance(a.type.element, ir.FloatType) else 64}",
    )
    return builder.call(function, (a, b, c))


def _intp(value: int) -> Any:
    return ir.Constant(ir.IntType(np.intp(0).nbytes * 8), value)


def _count(number: Any) -> int:
    """A number known at compile time: a literal, or the length of a tuple."""
    return int(number.count if isinstance(number, types.UniTuple) else number.literal_value)


def _tile(array_type: Any, rows: Any, columns: Any) -> types.UniTuple:
    return types.UniTuple(VectorType(array_type.dtype), _count(rows) * _count(columns))


# ---- what the kernels call -----------------------------------------------------------


@intrinsic(prefer_literal=True)
def tile_zeros(typingctx: Any, array: Any, rows: Any, columns: Any) -> Any:
    """A tile of rows x columns zero vectors, for numbers like those of `array`."""
    result = _tile(array, rows, columns)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(context.get_value_type(result.dtype), None)
        return context.make_tuple(builder, result, [zero] * result.count)

    return result(array, rows, columns), codegen


@intrinsic(prefer_literal=True)
def tile_spread(typingctx: Any, w: Any, wi: Any, rows: Any, columns: Any) -> Any:
    """A tile whose row r is w[wi + r] everywhere."""
    result = _tile(w, rows, columns)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(result.dtype)
        start = _pointer(context, builder, w, args[0], args[1])
        parts = []
        for row in range(_count(rows)):
            scalar = builder.load(_at(builder, start, _intp(row)))
            parts += [_spread(builder, scalar, vector)] * _count(columns)
        return context.make_tuple(builder, result, parts)

    return result(w, types.intp, rows, columns), codegen


@intrinsic
def tile_relu(typingctx: Any, tile: Any) -> Any:
    """max(tile, 0); what is not smaller than 0 stays, NaN included."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(context.get_value_type(tile.dtype), None)
        parts = [
            builder.select(builder.fcmp_ordered("<", part, zero), zero, part)
            for part in cgutils.unpack_tuple(builder, args[0], tile.count)
        ]
        return context.make_tuple(builder, tile, parts)

    return tile(tile), codegen


@intrinsic(prefer_literal=True)
def tile_load(typingctx: Any, array: Any, index: Any, rows: Any, columns: Any) -> Any:
    """Read a tile that `tile_store` wrote with ``step`` = a full row."""
    result = _tile(array, rows, columns)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(result.dtype)
        start = _pointer(context, builder, array, args[0], args[1])
        parts = [
            _load(builder, _at(builder, start, _intp(k * vector.count)), vector)
            for k in range(result.count)
        ]
        return context.make_tuple(builder, result, parts)

    return result(array, types.intp, rows, columns), codegen


@intrinsic(prefer_literal=True)
def tile_store(
    typingctx: Any, tile: Any, array: Any, index: Any, step: Any, rows: Any, columns: Any
) -> Any:
    """Write a tile; row r starts at array[index + r * step]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(tile.dtype)
        pointer = _pointer(context, builder, array, args[1], args[2])
        parts = cgutils.unpack_tuple(builder, args[0], tile.count)
        width = _count(columns)
        for row in range(_count(rows)):
            for column in range(width):
                place = _at(builder, pointer, _intp(column * vector.count))
                _store(builder, parts[row * width + column], place)
            pointer = _at(builder, pointer, args[3])
        return context.get_dummy_value()

    return types.void(tile, array, types.intp, types.intp, rows, columns), codegen


@intrinsic(prefer_literal=True)
def tile_step(
    typingctx: Any, tile: Any, x: Any, xi: Any, w: Any, wi: Any, rows: Any, columns: Any
) -> Any:
    """tile[r, c] += w[wi + r] * x[xi + c * lanes ...]: scalars times vectors."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(tile.dtype)
        parts = cgutils.unpack_tuple(builder, args[0], tile.count)
        x_start = _pointer(context, builder, x, args[1], args[2])
        w_start = _pointer(context, builder, w, args[3], args[4])
        width = _count(columns)
        loaded = [
            _load(builder, _at(builder, x_start, _intp(c * vector.count)), vector)
            for c in range(width)
        ]
        for row in range(_count(rows)):
            scalar = builder.load(_at(builder, w_start, _intp(row)))
            spread = _spread(builder, scalar, vector)
            for c in range(width):
                place = row * width + c
                parts[place] = _multiply_add(builder, spread, loaded[c], parts[place])
        return context.make_tuple(builder, tile, parts)

    return tile(tile, x, types.intp, w, types.intp, rows, columns), codegen


@intrinsic(prefer_literal=True)
def tile_scale(
    typingctx: Any,
    tile: Any,
    w: Any,
    wi: Any,
    x: Any,
    xi: Any,
    x_step: Any,
    rows: Any,
    columns: Any,
) -> Any:
    """tile[r, c] += w[wi] * x[xi + r * x_step + c * lanes ...]: one scalar times vectors."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(tile.dtype)
        parts = cgutils.unpack_tuple(builder, args[0], tile.count)
        scalar = builder.load(_pointer(context, builder, w, args[1], args[2]))
        spread = _spread(builder, scalar, vector)
        x_at = _pointer(context, builder, x, args[3], args[4])
        width = _count(columns)
        for row in range(_count(rows)):
            for c in range(width):
                place = row * width + c
                loaded = _load(builder, _at(builder, x_at, _intp(c * vector.count)), vector)
                parts[place] = _multiply_add(builder, spread, loaded, parts[place])
            x_at = _at(builder, x_at, args[5])
        return context.make_tuple(builder, tile, parts)

    return (
        tile(tile, w, types.intp, x, types.intp, types.intp, rows, columns),
        codegen,
    )


@intrinsic(prefer_literal=True)
def tile_outer(
    typingctx: Any,
    tile: Any,
    g: Any,
    gi: Any,
    g_step: Any,
    x: Any,
    xi: Any,
    x_step: Any,
    rows: Any,
    columns: Any,
) -> Any:
    """tile[r, c] += g[gi + r * g_step ...] * x[xi + c * x_step ...]: vectors times vectors."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(tile.dtype)
        parts = cgutils.unpack_tuple(builder, args[0], tile.count)
        g_at = _pointer(context, builder, g, args[1], args[2])
        x_at = _pointer(context, builder, x, args[4], args[5])
        width = _count(columns)
        loaded = []
        for _ in range(width):
            loaded.append(_load(builder, x_at, vector))
            x_at = _at(builder, x_at, args[6])
        for row in range(_count(rows)):
            g_row = _load(builder, g_at, vector)
            g_at = _at(builder, g_at, args[3])
            for c in range(width):
                place = row * width + c
                parts[place] = _multiply_add(builder, g_row, loaded[c], parts[place])
        return context.make_tuple(builder, tile, parts)

    return (
        tile(tile, g, types.intp, types.intp, x, types.intp, types.intp, rows, columns),
        codegen,
    )


@intrinsic
def vector_sums(typingctx: Any, array: Any, index: Any) -> Any:
    """A vector of sums: lane k adds up the k-th of the vectors at array[index], ..."""
    result = types.UniTuple(VectorType(array.dtype), 1)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(result.dtype)
        lanes = vector.count
        start = _pointer(context, builder, array, args[0], args[1])
        parts = [
            _load(builder, _at(builder, start, _intp(k * lanes)), vector) for k in range(lanes)
        ]
        # Each round folds every segment of two vectors in half and puts them side by side:
        # [a0 a1 a2 a3], [b0 b1 b2 b3] -> [a0+a2 a1+a3 b0+b2 b1+b3] -> ...
        segment = lanes
        while segment > 1:
            half = segment // 2
            lower = [s + k for s in range(0, 2 * lanes, segment) for k in range(half)]
            picks = ir.VectorType(ir.IntType(32), lanes)
            low = ir.Constant(picks, lower)
            high = ir.Constant(picks, [lane + half for lane in lower])
            parts = [
                builder.fadd(builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high))
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
            segment = half
        return context.make_tuple(builder, result, parts)

    return result(array, types.intp), codegen
