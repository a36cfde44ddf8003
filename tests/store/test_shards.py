import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from thawline.store.shards import DamagedShardError, count_rows, digest_rows, open_shard, write_shard


def _shard(folder: Path) -> Path:
    digests = digest_rows([f"{i:064x}" for i in range(4)])
    n_bytes = write_shard(folder, digests, np.arange(24, dtype=np.float32).reshape(4, 2, 3))
    (path,) = folder.iterdir()
    assert path.stat().st_size == n_bytes
    return path


def _rewrite_header(path: Path, **values: object) -> None:
    """Change what the header says of ``values``, keeping its length and everything behind it."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["values"] |= values
    written = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    assert len(written) == length
    path.write_bytes(content[:8] + written + content[8 + length :])


def test_comes_back_as_written(tmp_path: Path) -> None:
    shard = open_shard(_shard(tmp_path), "float32")
    np.testing.assert_array_equal(shard.values(), np.arange(24, dtype=np.float32).reshape(4, 2, 3))
    assert [digest.tobytes().hex() for digest in shard.digests] == [f"{i:064x}" for i in range(4)]
    assert shard.is_intact()
    assert count_rows(shard.path, "float32") == 4


@pytest.mark.parametrize("kind", ["<f4", "<f2", "<u2", "u1"])
def test_the_library_of_the_format_reads_it(tmp_path: Path, kind: str) -> None:
    digests, values = digest_rows([f"{i:064x}" for i in range(3)]), np.arange(15).reshape(3, 5).astype(kind)
    write_shard(tmp_path, digests, values)
    (path,) = tmp_path.iterdir()
    read = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(read["values"], values)
    assert read["values"].dtype == np.dtype(kind)
    assert read["digests"].tobytes() == digests.tobytes()


def test_values_do_not_depend_on_how_they_lay_in_memory(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(6, 4)
    write_shard(tmp_path, digest_rows([f"{i:064x}" for i in range(4)]), values.T)
    (path,) = tmp_path.iterdir()
    np.testing.assert_array_equal(open_shard(path, "float32").values(), values.T)
    assert open_shard(path, "float32").is_intact()


def test_another_number_format_is_not_read(tmp_path: Path) -> None:
    path = _shard(tmp_path)
    with pytest.raises(DamagedShardError):
        open_shard(path, "float16")
    assert count_rows(path, "float16") == 0


@pytest.mark.parametrize("shape", [[2, 4, 3], [0, 2, 3]])
def test_a_header_that_contradicts_itself_is_not_read(tmp_path: Path, shape: list[int]) -> None:
    path = _shard(tmp_path)
    _rewrite_header(path, shape=shape)
    with pytest.raises(DamagedShardError):
        open_shard(path, "float32")


def test_the_checksum_covers_the_shape(tmp_path: Path) -> None:
    path = _shard(tmp_path)
    _rewrite_header(path, shape=[4, 3, 2])
    assert not open_shard(path, "float32").is_intact()
