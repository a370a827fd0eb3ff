"""A notebook that prints without end fills neither memory nor disk: what a cell leaves is cut at a limit."""

from __future__ import annotations

from collections import Counter
from typing import Any

from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_output
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

__all__ = ["ENGINE", "LIMITS"]

ENGINE = "repro-limited"
LIMITS = {"text": 1_000_000, "displays": 16_000_000}
"""What is kept of one cell, in characters: printed text, and everything that it displays."""
_OVERHEAD = 100
"""What an output costs besides its content: a flood of empty lines is a flood too."""


class _LimitedClient(PapermillNotebookClient):
    """Drops the outputs of a cell beyond the limits, and says so once in the cell's standard error."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: Counter[tuple[int, str]] = Counter()

    def execute_cell(self, cell: Any, *args: Any, **kwargs: Any) -> Any:
        """As papermill's, but a magic that is used wrongly, which shows no traceback, shows its reason too."""
        try:
            return super().execute_cell(cell, *args, **kwargs)
        except CellExecutionError as error:
            if not any(output.output_type == "error" for output in cell.outputs):
                cell.outputs.append(new_output("error", ename=error.ename, evalue=error.evalue))
            raise

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: Any, cell_index: int) -> Any:
        content, kind = msg["content"], "displays"
        if msg["msg_type"] == "error":
            return super().output(outs, msg, display_id, cell_index)
        if msg["msg_type"] == "stream":
            kind, size = "text", len(content["text"])
        else:
            size = sum(len(str(value)) for value in content.get("data", {}).values())
        before, limit = self._kept[cell_index, kind], LIMITS[kind]
        self._kept[cell_index, kind] = after = min(before + size + _OVERHEAD, limit)
        if after < limit:
            return super().output(outs, msg, display_id, cell_index)
        if before == limit:
            return None
        if kind == "text":
            cut = content | {"text": content["text"][: max(0, limit - before - _OVERHEAD)]}
            super().output(outs, msg | {"content": cut}, display_id, cell_index)
        note = f"\n[cut: this cell's {kind} went over {limit // 1_000_000} MB, and the rest is not kept]\n"
        printed = {"header": msg["header"] | {"msg_type": "stream"}, "msg_type": "stream"}
        told = msg | printed | {"content": {"name": "stderr", "text": note}}
        return super().output(outs, told, None, cell_index)

    def clear_output(self, outs: list[Any], msg: dict[str, Any], cell_index: int) -> None:
        for kind in LIMITS:
            del self._kept[cell_index, kind]
        super().clear_output(outs, msg, cell_index)


class _LimitedEngine(NBClientEngine):
    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Papermill's own engine, with the client that limits."""
        for unused in ("input_path", "log_output", "stdout_file", "stderr_file"):
            kwargs.pop(unused, None)
        client = _LimitedClient(
            nb_man,
            timeout=execution_timeout,
            startup_timeout=start_timeout,
            kernel_name=kernel_name,
            **kwargs,
        )
        return client.execute()


papermill_engines.register(ENGINE, _LimitedEngine)
