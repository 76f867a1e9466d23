"""Files of data: damage and files of others are found, down to the last bit."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from sklearn_san import _container
from sklearn_san._container import dump_tree, load_tree, read_checked, sealed
from sklearn_san.exceptions import CorruptModelError

DATA = dump_tree({"name": "file", "weight": np.arange(40.0), "shape": (2, [3, 4])})


def damaged(data, random):
    """One of the ways in which a file can be changed."""
    place = int(random.integers(len(data)))
    end_of_header = 8 + int.from_bytes(data[:8], "little")
    if random.uniform() < 0.5:
        place = int(random.integers(end_of_header))
    flipped = bytes([data[place] ^ 1 << int(random.integers(8))])
    changes = [
        data[:place],
        data[:place] + flipped + data[place + 1 :],
        data[:place] + data[place + 1 :],
        data[:place] + bytes([int(random.integers(256))]) + data[place:],
        data[len(data) // 2 :] + data[: len(data) // 2],
        data[:place] + bytes(len(data) - place),
        data + data[:place],
        random.bytes(place),
    ]
    return changes[int(random.integers(len(changes)))]


def test_every_damaged_file_is_refused():
    random = np.random.default_rng(0)
    different = {damaged(DATA, random) for _ in range(400)} - {DATA}
    assert len(different) > 300
    for data in different:
        with pytest.raises(CorruptModelError, match=r"The data is (damaged|no file)"):
            load_tree(data)
    load_tree(DATA)


def test_every_single_bit_counts():
    data = dump_tree([1, "two", np.arange(3)])
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptModelError):
            load_tree(bytes(changed))


def foreign_files():
    """Contents that others write."""
    from safetensors.numpy import save

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("data.pkl", b"")
    description = {"sha256": "0" * 64, "format": 1, "content": "tree", "tree": 1}
    return {
        "empty": b"",
        "text": b"p(y | x)\n" * 50,
        "zip": archive.getvalue(),
        "pickle": pickle.dumps({"a": 1}),
        "safetensors": save({"weight": np.zeros(3)}),
        "with metadata": save({"weight": np.zeros(3)}, {"format": "pt"}),
        "with our key": save({"weight": np.zeros(3)}, {"sklearn_san": "[]"}),
        "with no digest of its own": save({}, {"sklearn_san": json.dumps(description)}),
        "deeply nested": (10**6).to_bytes(8, "little") + b"[" * 10**6,
        "null": (4).to_bytes(8, "little") + b"null",
        "not UTF-8": (4).to_bytes(8, "little") + b"\xff\xfe\xff\xff",
        "endless header": b"\xff" * 64,
    }


@pytest.mark.parametrize("name", foreign_files())
def test_foreign_files_are_refused(name, tmp_path):
    (tmp_path / "m").write_bytes(foreign_files()[name])
    with pytest.raises(CorruptModelError, match="m' is no file that sklearn_san wrote"):
        read_checked(tmp_path / "m")


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*none'; check its name"):
        read_checked(tmp_path / "none")
    with pytest.raises(CorruptModelError, match="is a folder; give the name of a file"):
        read_checked(tmp_path)


def test_later_formats_are_refused(monkeypatch):
    with monkeypatch.context() as later:
        later.setattr(_container, "FORMAT", 2)
        data = dump_tree(1)
    with pytest.raises(CorruptModelError, match=r"has format 2, written by sklearn_san .* up to 1"):
        load_tree(data)


def test_other_versions_are_loaded_silently(monkeypatch):
    versions = {"sklearn_san": "9.9", "numpy": "1.0", "scikit-learn": "0.1", "torch": "0.4"}
    monkeypatch.setattr(_container, "_versions", lambda: versions)
    assert load_tree(dump_tree([1])) == [1]


def test_files_of_other_content_are_refused():
    data = dump_tree({"epoch": 3}, content="checkpoint")
    with pytest.raises(CorruptModelError, match="holds 'checkpoint', not 'model'"):
        load_tree(data, content="model")
    assert load_tree(data, content="checkpoint") == {"epoch": 3}


@pytest.mark.parametrize(
    "changed",
    [{"format": "1"}, {"content": None}, {"versions": 1, "format": 2}, {"tree": {"a": 1, "b": 2}}],
    ids=str,
)
def test_descriptions_that_were_made_up_are_refused(changed):
    description = _container.description_of(dump_tree(1)) | changed
    with pytest.raises(CorruptModelError, match=r"The data (cannot be rebuilt|holds)"):
        load_tree(sealed(description, {}))
