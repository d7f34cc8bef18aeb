"""A datatrove reader with our rules: hostile documents, limits, stable keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from dsv3data.io.sources import ReadOptions, Rejected, discover, plan_units, read_unit
from dsv3data.stages.shared_run import share_of

# Where a document of this reader keeps its key (32 hex digits), so that `TokenizeDocuments` can
# give it the same one as `dsv3data tokenize`.
KEY = "dsv3data_key"


class ReadDocuments(PipelineStep):  # type: ignore[misc]
    """Yields the documents of files and folders; work units are dealt to the ranks.

    `id` is SOURCE:POSITION; `metadata` has `source`, `position`, `domain` and the key. Records that
    are no document are counted in the statistics, by reason, as `rejected_…`.

    Args:
        inputs: files, folders, URLs.
        options: which fields hold text, id and domain, and what is refused.
        unit_bytes: input bytes that a rank takes at once.
    """

    type = "dsv3data"
    name = "read documents"

    def __init__(
        self,
        inputs: Sequence[Path | str],
        *,
        options: ReadOptions | None = None,
        unit_bytes: int = 64 << 20,
    ) -> None:
        super().__init__()
        self.inputs = [str(path) for path in inputs]
        self.options = options or ReadOptions()
        self.unit_bytes = unit_bytes

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The documents that come in, then those of this rank's units."""
        yield from data or ()
        files, _ = discover(self.inputs, text_files=self.options.text_files)
        units = plan_units(files, unit_bytes=self.unit_bytes)
        for unit in share_of(units, rank=rank, world=world_size):
            for item in read_unit(unit, self.options):
                if isinstance(item, Rejected):
                    self.stat_update(f"rejected_{item.reason}")
                    continue
                document = Document(
                    text=item.text,
                    id=f"{item.source}:{item.position}",
                    metadata={
                        "source": item.source,
                        "position": item.position,
                        "domain": item.domain,
                        KEY: item.key.hex(),
                    },
                )
                self.stat_update("documents")
                self.update_doc_stats(document)
                yield document
