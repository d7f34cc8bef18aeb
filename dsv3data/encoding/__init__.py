"""Text to ids and back. No engine here can yield a control id from a document's text."""
