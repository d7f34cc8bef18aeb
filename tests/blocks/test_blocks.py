"""Our blocks in a datatrove pipeline of one's own, beside datatrove's."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from dsv3data.audit.verify import verify
from dsv3data.contracts.errors import BadConfig, BadInput, EnvironmentFault
from dsv3data.contracts.progress import NullSink
from dsv3data.io.manifest_file import read_manifest
from dsv3data_pipelines.blocks import PublishTokens, ReadDocuments, TokenizeDocuments
from folders import published
from read_sets import documents_in
from tiny_data import pack_tiny


class Shorter(PipelineStep):
    """Somebody's own filter."""

    type, name = "own", "shorter"

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        yield from (document for document in data if len(document.text) < 2000)


def execute(steps: list[Any], logs: Path, *, tasks: int = 1) -> None:
    LocalPipelineExecutor(
        steps, tasks=tasks, workers=1, logging_dir=str(logs), skip_completed=False
    ).run()


def tokenize(
    source: list[Any], tokenizer: Path, out: Path, *, tasks: int = 3, publish: bool = True
) -> Path:
    logs = out.parent / "logs"
    execute([*source, TokenizeDocuments(tokenizer, out)], logs / "tokenize", tasks=tasks)
    if publish:
        execute([PublishTokens(tokenizer, out, tasks=tasks)], logs / "publish")
    return out


def test_documents_keep_the_ids_and_keys_that_our_command_gives_them(
    tiny_corpus: Path, tiny_tokenizer: Path, tiny_tokens: Path, tmp_path: Path
) -> None:
    source = [ReadDocuments([tiny_corpus], unit_bytes=16 << 10)]
    out = tokenize(source, tiny_tokenizer, tmp_path / "tokens")
    verify(out, sink=NullSink())
    assert read_manifest(out).keys_digest == read_manifest(tiny_tokens).keys_digest
    ours, command = (sorted(map(str, documents_in(folder))) for folder in (out, tiny_tokens))
    assert ours == command
    assert published(pack_tiny(out, tmp_path / "packed"))
    verify(tmp_path / "packed", sink=NullSink())


def test_a_filter_between_and_the_same_bytes_again(
    tiny_corpus: Path, tiny_tokenizer: Path, tiny_tokens: Path, tmp_path: Path
) -> None:
    source = [ReadDocuments([tiny_corpus], unit_bytes=16 << 10), Shorter()]
    out = tokenize(source, tiny_tokenizer, tmp_path / "tokens")
    counts, whole = read_manifest(out).counts, read_manifest(tiny_tokens).counts
    assert 0 < counts["documents"] < whole["documents"]
    assert counts["bytes"] < 8000 * counts["documents"]
    before = published(out)
    assert published(tokenize(source, tiny_tokenizer, out)) == before
    stats = (tmp_path / "logs" / "publish" / "stats.json").read_text()
    assert "publish tokens" in stats


class Given(PipelineStep):
    """Documents that have nothing of ours."""

    type, name = "own", "given"

    def __init__(self, documents: Iterable[Document]) -> None:
        super().__init__()
        self.documents = list(documents)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Any:
        yield from self.documents[rank::world_size]


def test_documents_in_others_and_what_is_refused(tiny_tokenizer: Path, tmp_path: Path) -> None:
    documents = [Document(text=f"text {index}", id=f"d/{index}") for index in range(5)]
    documents += [
        Document(text="", id="empty"),
        Document(text="lone \ud800", id="surrogate", metadata={"file_path": "a.parquet"}),
        Document(text="x", id="domain", metadata={"domain": "no such/../name"}),
        Document(text="ein Text", id="good", metadata={"domain": "de"}),
    ]
    out = tokenize([Given(documents)], tiny_tokenizer, tmp_path / "tokens", tasks=2)
    counts = verify(out, sink=NullSink()).facts
    assert {name: sums["documents"] for name, sums in counts["domains"].items()} == {
        "default": 5,
        "de": 1,
    }
    rejected = (out / "rejected.jsonl").read_text()
    for reason in ("empty", "lone-surrogate", "domain-name"):
        assert f'"reason": "{reason}"' in rejected
    assert '"source": "a.parquet"' in rejected


def test_two_documents_in_one_id(tiny_tokenizer: Path, tmp_path: Path) -> None:
    twins = [Document(text="one", id="same"), Document(text="two", id="same")]
    with pytest.raises(BadInput, match="have the id of another document"):
        tokenize([Given(twins)], tiny_tokenizer, tmp_path / "tokens", tasks=2)


def test_ranks_that_did_not_run_are_missed(tiny_tokenizer: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    source = Given([Document(text="one", id="1")])
    tokenize([source], tiny_tokenizer, out, tasks=3, publish=False)
    (out / ".work" / "unit-00001.json").unlink()
    step = PublishTokens(tiny_tokenizer, out, tasks=3)
    with pytest.raises(EnvironmentFault, match="tasks have not written their shards: 00001"):
        list(step.run())
    with pytest.raises(BadConfig, match=r"stream: 3 tasks → 4 tasks"):
        list(PublishTokens(tiny_tokenizer, out, tasks=4).run())


def test_the_example_of_the_page_runs(
    tiny_corpus: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "corpus").symlink_to(tiny_corpus)
    (tmp_path / "tokenizer").symlink_to(tiny_tokenizer)
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, check=True, capture_output=True)
    documents = verify(tmp_path / "filtered", sink=NullSink()).facts["documents"]
    assert 0 < documents < len(documents_in_lines(tiny_corpus))


def documents_in_lines(corpus: Path) -> list[bytes]:
    return [line for path in corpus.iterdir() for line in path.read_bytes().splitlines()]
