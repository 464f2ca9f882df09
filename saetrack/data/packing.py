"""Documents of tokens to rows of equal length."""

from __future__ import annotations

from collections.abc import Sequence


class RowPacker:
    """Joins documents and cuts them into rows; every document and every row begins with BOS.

    What does not fit into a row goes on in the next one, behind a BOS of its own. This is the
    packing of the authors' code, which in addition drops remainders.
    """

    def __init__(self, context_size: int, bos_token_id: int, rest: Sequence[int] = ()) -> None:
        """No document yet, or what others left over.

        Args:
            context_size: tokens of a row, BOS included.
            bos_token_id: the token that begins documents and rows.
            rest: of the packer that this one goes on from.
        """
        self._context_size = context_size
        self._bos_token_id = bos_token_id
        self._row = list(rest)

    @property
    def rest(self) -> list[int]:
        """The tokens that do not fill a row yet."""
        return self._row

    def add(self, document: list[int]) -> list[list[int]]:
        """Append a document's tokens; the rows that became full by it, each `context_size` long."""
        full_rows = []
        tokens = [self._bos_token_id, *document]
        begin = 0
        while begin < len(tokens):
            if not self._row and tokens[begin] != self._bos_token_id:
                self._row = [self._bos_token_id]
            end = begin + self._context_size - len(self._row)
            self._row += tokens[begin:end]
            begin = end
            if len(self._row) == self._context_size:
                full_rows.append(self._row)
                self._row = []
        return full_rows
