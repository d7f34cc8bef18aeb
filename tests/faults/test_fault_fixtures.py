"""The shared tiny data must contain what the fault tests need to meet."""

from __future__ import annotations

from pathlib import Path

from dsv3data.audit.verify import verify
from dsv3data.contracts.progress import NullSink
from dsv3data.io.manifest_file import read_manifest
from folders import everything, root_of
from tiny_data import CONTEXT, write_corpus


def test_the_corpus_has_the_same_bytes_in_every_session(tiny_corpus: Path, tmp_path: Path) -> None:
    assert everything(tiny_corpus) == everything(write_corpus(tmp_path / "again"))
    assert 100_000 < sum(path.stat().st_size for path in tiny_corpus.iterdir()) < 400_000


def test_the_sets_have_several_units_domains_long_documents_fim_and_control_text(
    tiny_tokenizer: Path, tiny_tokens: Path, tiny_packed: Path
) -> None:
    tokens, packed = read_manifest(tiny_tokens), read_manifest(tiny_packed)
    assert len(tokens.shards()) >= 4
    assert len(packed.shards()) >= 6
    assert set(tokens.counts["domains"]) == {"web", "zh", "code"}
    assert tokens.counts["control_text_documents"] >= 4
    assert packed.counts["documents_cut"] >= 9
    assert packed.counts["fim"]["documents_fim"] >= 30
    assert packed.plan["pack"]["context"] == CONTEXT
    for folder in (tiny_tokenizer, tiny_tokens, tiny_packed):
        assert verify(folder, sink=NullSink()).root == root_of(folder)
