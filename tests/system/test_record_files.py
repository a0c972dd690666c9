"""Files of records, torn and damaged: the journals of a store and of a run, in their own formats on disk."""

import errno
import os

import pytest

from fphojax.errors import InputError, StorageError
from fphojax.inputs.stores.build_journal import BuildJournal
from fphojax.results.patch_journal import Journal, Release

KINDS = {
    "lines": (BuildJournal, lambda number: {"name": f"e{number}"}, lambda entry: int(entry["name"][1:])),
    "frames": (Journal, Release, lambda record: record.patch),
}
# As earlier versions wrote them.
OLD = {
    "lines": b'{"crc32": 1868758385, "entry": {"name": "e0"}}\n{"crc32": 1856018246, "entry": {"name": "e1"}}\n',
    "frames": b'\x10\0\0\0\xce\xafR\x12{"released": 0}\n\x10\0\0\0\xf9\xc5\x90\x13{"released": 1}\n',
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def records(kind, tmp_path):
    """A function that opens the same file anew; one that makes a record of a number; and the numbers in the file."""
    create, record, number = KINDS[kind]
    return (
        lambda: create(tmp_path / "journal"),
        record,
        lambda: [number(entry) for entry in create(tmp_path / "journal").records()],
    )


def test_file_cut_anywhere_keeps_the_records_before(records):
    opened, record, numbers = records
    assert numbers() == []
    ends = []
    for number in range(3):
        opened().append(record(number))
        ends.append(opened().path.stat().st_size)
    content = opened().path.read_bytes()
    for cut in range(len(content) + 1):
        opened().path.write_bytes(content[:cut])
        complete = [number for number, end in enumerate(ends) if end <= cut]
        assert numbers() == complete
        opened().append(record(9))
        assert numbers() == [*complete, 9]


def test_damage_before_the_last_record_is_refused(records):
    opened, record, numbers = records
    opened().rewrite(map(record, range(3)))
    content = bytearray(opened().path.read_bytes())
    content[len(content) // 2] ^= 1
    opened().path.write_bytes(content)
    for use in (numbers, lambda: opened().append(record(3))):
        with pytest.raises(InputError, match=r"journal: .* is damaged.*, expected"):
            use()
    assert opened().path.read_bytes() == content


def test_a_disk_that_fails_in_syncing_takes_no_record(tmp_path, monkeypatch):
    journal = BuildJournal(tmp_path / "journal")
    journal.append({"name": "e0"})

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"journal: cannot be written \(no space left on device\)"):
            journal.append({"name": "e1"})
    journal.append({"name": "e2"})
    assert [entry["name"] for entry in journal.records()] == ["e0", "e2"]


def test_files_of_earlier_versions_are_read(kind, records, tmp_path):
    opened, record, numbers = records
    (tmp_path / "journal").write_bytes(OLD[kind])
    assert numbers() == [0, 1]
    opened().rewrite(map(record, range(2)))
    assert (tmp_path / "journal").read_bytes() == OLD[kind]


def test_a_pipe_is_refused(records):
    opened, _, numbers = records
    os.mkfifo(opened().path)
    with pytest.raises(InputError, match="journal: found a named pipe, expected the journal of a"):
        numbers()
