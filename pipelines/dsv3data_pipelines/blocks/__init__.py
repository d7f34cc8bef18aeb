"""Our steps for anyone's datatrove pipeline: read documents, tokenize a stream, publish the set."""

from dsv3data_pipelines.blocks.read_documents import ReadDocuments
from dsv3data_pipelines.blocks.tokenize_documents import PublishTokens, TokenizeDocuments

__all__ = ["PublishTokens", "ReadDocuments", "TokenizeDocuments"]
