"""The operations of :mod:`.simd` that max-pooling needs, as LLVM code.

Winners are small unsigned integers in memory, one byte a sample.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minifbi.backends.numba_kernels.machine import NO_WINNER
from minifbi.backends.numba_kernels.simd_llvm import (
    _at,
    _intp,
    _load,
    _pointer,
    _spread,
    _store,
)

_BYTE = ir.IntType(8)


def _bytes(builder: Any, pointer: Any, lanes: int) -> Any:
    return builder.bitcast(pointer, ir.VectorType(_BYTE, lanes).as_pointer())


@intrinsic
def tile_pick(typingctx: Any, tile: Any, x: Any, xi: Any, winners: Any, wi: Any, place: Any) -> Any:
    """Where winners[wi ...] is `place`: x[xi ...]; elsewhere what the tile of one row holds."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(tile.dtype)
        parts = cgutils.unpack_tuple(builder, args[0], tile.count)
        x_start = _pointer(context, builder, x, args[1], args[2])
        w_start = _pointer(context, builder, winners, args[3], args[4])
        wanted = _spread(builder, builder.trunc(args[5], _BYTE), ir.VectorType(_BYTE, vector.count))
        for c in range(tile.count):
            offset = _intp(c * vector.count)
            places = builder.load(
                _bytes(builder, _at(builder, w_start, offset), vector.count), align=1
            )
            values = _load(builder, _at(builder, x_start, offset), vector)
            chosen = builder.icmp_unsigned("==", places, wanted)
            parts[c] = builder.select(chosen, values, parts[c])
        return context.make_tuple(builder, tile, parts)

    return tile(tile, x, types.intp, winners, types.intp, types.intp), codegen


@intrinsic
def best_of(typingctx: Any, best: Any, x: Any, xi: Any, place: Any) -> Any:
    """Let x[xi ...] challenge the best so far; `best` is (values, their places as numbers).

    The larger wins, and the first NaN, the only value that differs from itself.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(best.dtype)
        old, places = cgutils.unpack_tuple(builder, args[0], 2)
        value = _load(builder, _pointer(context, builder, x, args[1], args[2]), vector)
        number = builder.sitofp(args[3], vector.element)
        first_nan = builder.and_(
            builder.fcmp_unordered("uno", value, value), builder.fcmp_ordered("ord", old, old)
        )
        wins = builder.or_(builder.fcmp_ordered(">", value, old), first_nan)
        parts = [
            builder.select(wins, value, old),
            builder.select(wins, _spread(builder, number, vector), places),
        ]
        return context.make_tuple(builder, best, parts)

    return best(best, x, types.intp, types.intp), codegen


@intrinsic
def best_store(typingctx: Any, best: Any, out: Any, oi: Any, winners: Any, wi: Any) -> Any:
    """Write values and places; where the best is not above 0, nobody has won."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(best.dtype)
        values, places = cgutils.unpack_tuple(builder, args[0], 2)
        _store(builder, values, _pointer(context, builder, out, args[1], args[2]))
        codes = builder.fptosi(places, ir.VectorType(ir.IntType(32), vector.count))
        codes = builder.trunc(codes, ir.VectorType(_BYTE, vector.count))
        nobody = ir.Constant(codes.type, [NO_WINNER] * vector.count)
        active = builder.fcmp_ordered(">", values, ir.Constant(vector, None))
        codes = builder.select(active, codes, nobody)
        pointer = _pointer(context, builder, winners, args[3], args[4])
        builder.store(codes, _bytes(builder, pointer, vector.count), align=1)
        return context.get_dummy_value()

    return types.void(best, out, types.intp, winners, types.intp), codegen
