"""The journal of a store being built: a file of JSON lines, each synced to disk before it counts."""

import json
import zlib

from fphojax.system.record_files import RecordFile

__all__ = ["BuildJournal"]


class BuildJournal(RecordFile):
    """Entries of a build, mappings: each is a line with the checksum of its text."""

    expected = "the journal of a store in the making"
    synced = True

    def _encoded(self, record):
        text = json.dumps(record)
        return f'{{"crc32": {zlib.crc32(text.encode())}, "entry": {text}}}\n'.encode()

    def _decoded(self, content, start):
        end = content.find(b"\n", start) + 1
        if end == 0:
            return None
        try:
            line = json.loads(content[start:end])
            entry, checksum = line["entry"], line["crc32"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        same = isinstance(entry, dict) and zlib.crc32(json.dumps(entry).encode()) == checksum
        return (entry, end) if same else None

    def _starts(self, content, start):
        while (start := content.find(b"\n", start) + 1) > 0:
            yield start

    def _damage(self, content, start):
        number = content.count(b"\n", 0, start) + 1
        return f"line {number} is damaged, expected {self.expected} (`fphojax preprocess --overwrite` begins anew)"
