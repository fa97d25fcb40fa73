"""Named data sets out of files in folders, and downloads from a server on loopback."""

import dataclasses
import gzip
import hashlib
import http.server
import io
import logging
import os
import struct
import tarfile
import threading
from pathlib import Path

import numpy as np
import pooch
import pytest

from fastnn import data
from fastnn.data.sources import SOURCES, File
from fastnn.errors import DataError

RNG = np.random.default_rng(0)
NEEDS_MNIST = pytest.mark.skipif(
    not Path(os.environ.get("FASTNN_DATA_DIR", "/nowhere"), "mnist").is_dir(),
    reason="needs MNIST: set FASTNN_DATA_DIR to a folder that holds mnist/",
)


def described(name, content):
    return File(name, len(content), hashlib.sha256(content).hexdigest())


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


IMAGES = {part: RNG.integers(0, 256, (n, 3, 4), dtype=np.uint8) for part, n in (("train", 7), ("t10k", 5))}
LABELS = {part: RNG.integers(0, 10, len(images), dtype=np.uint8) for part, images in IMAGES.items()}
TINY_MNIST = {
    **{f"{part}-images-idx3-ubyte": idx(IMAGES[part]) for part in IMAGES},
    **{f"{part}-labels-idx1-ubyte": idx(LABELS[part]) for part in LABELS},
}
RECORDS = {
    name: RNG.integers(0, 10, (n, 3073), dtype=np.uint8)
    for name, n in [*((f"data_batch_{i}.bin", 2) for i in range(1, 6)), ("test_batch.bin", 3)]
}


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, no data folder, and data sets small enough to make up."""
    monkeypatch.delenv("FASTNN_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    for name, contents in (("mnist", TINY_MNIST), ("cifar10", {n: r.tobytes() for n, r in RECORDS.items()})):
        source = SOURCES[name]
        small = {
            part: tuple(described(f.name, contents[f.name]) for f in getattr(source, part))
            for part in ("train", "test")
        }
        monkeypatch.setitem(SOURCES, name, dataclasses.replace(source, mirrors=("http://127.0.0.1:9/",), **small))
    return tmp_path / "cache" / "fastnn"


class Server:
    """Answers GET from ``answers``: content or an HTTP status by path, 404 for the rest; ``asked`` lists the paths."""

    def __init__(self):
        self.answers, self.asked = {}, []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                answer = server.answers.get(self.path, 404)
                content = answer if isinstance(answer, bytes) else b""
                self.send_response(200 if content else answer)
                self.send_header("Content-Length", str(len(content) + server.missing_bytes))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        self.missing_bytes = 0  # promised in the header, never sent
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def url(self, folder):
        return f"http://127.0.0.1:{self.http.server_port}/{folder}/"

    def serve(self, folder, contents):
        self.answers.update({f"/{folder}/{name}": content for name, content in contents.items()})

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(cache):
    server = Server()
    yield server
    server.close()


def use_mirrors(monkeypatch, name, *mirrors):
    monkeypatch.setitem(SOURCES, name, dataclasses.replace(SOURCES[name], mirrors=mirrors))


def put(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def packed(contents):
    return {f"{name}.gz": gzip.compress(content) for name, content in contents.items()}


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# --- files in folders ---


@pytest.mark.parametrize("layout", ["mnist", "MNIST/raw", "."])
@pytest.mark.parametrize("pack", [dict, packed], ids=["plain", "gzip"])
def test_data_dir_in_every_layout(cache, tmp_path, layout, pack):
    put(tmp_path / "d" / layout, pack(TINY_MNIST))
    for split, part in (("train", "train"), ("test", "t10k")):
        loaded = data.load("mnist", split=split, data_dir=tmp_path / "d")
        np.testing.assert_array_equal(loaded.images, IMAGES[part][:, np.newaxis])
        np.testing.assert_array_equal(loaded.labels, LABELS[part])
        assert (loaded.name, loaded.classes) == ("mnist", tuple("0123456789"))
        assert not loaded.images.flags.writeable
        assert not loaded.labels.flags.writeable
    assert not cache.exists()


def test_data_dir_from_the_environment(cache, tmp_path, monkeypatch):
    put(tmp_path / "d" / "mnist", TINY_MNIST)
    monkeypatch.setenv("FASTNN_DATA_DIR", str(tmp_path / "d"))
    assert len(data.load("mnist")) == 7
    with pytest.raises(DataError, match="is not in the data folder"):
        data.load("mnist", data_dir=tmp_path)


def test_cifar10_from_its_files_and_from_its_archive(cache, tmp_path):
    contents = {name: records.tobytes() for name, records in RECORDS.items()}
    put(tmp_path / "files" / "cifar-10-batches-bin", contents)
    put(tmp_path / "archive" / "cifar10", {"cifar-10-binary.tar.gz": archive_of(contents)})
    records = np.concatenate([RECORDS[f"data_batch_{i}.bin"] for i in range(1, 6)])
    for folder in ("files", "archive"):
        train = data.load("cifar10", data_dir=tmp_path / folder)
        np.testing.assert_array_equal(train.images.reshape(10, 3072), records[:, 1:])
        np.testing.assert_array_equal(train.labels, records[:, 0])
        assert (train.image_shape, train.classes[3]) == ((3, 32, 32), "cat")
        assert len(data.load("cifar10", split="test", data_dir=tmp_path / folder)) == 3
        assert all(report.ok for report in data.verify("cifar10", data_dir=tmp_path / folder))


def archive_of(contents, folder="cifar-10-batches-bin", links=()):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name in links:
            link = tarfile.TarInfo(f"links/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def test_nothing_in_the_data_folder_names_all_that_helps(cache, tmp_path):
    with pytest.raises(DataError) as caught:
        data.load("mnist", data_dir=tmp_path / "empty")
    for part in (
        "mnist is not in",
        str(tmp_path / "empty"),
        "train-images-idx3-ubyte",
        "--data-dir",
        "fastnn train digits",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "expected the 100 bytes of the published .*, found only 99"),
        (lambda content: content + b"\0", "expected the 100 bytes of the published .*, found more"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "with SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}"),
        (None, "expected train-images-idx3-ubyte or train-images-idx3-ubyte.gz in .*, found none"),
    ],
    ids=["cut short", "too long", "one bit", "missing"],
)
def test_damaged_files_are_refused(cache, tmp_path, damage, message):
    name = "train-images-idx3-ubyte"
    contents = {n: c for n, c in TINY_MNIST.items() if n != name}
    put(tmp_path / "mnist", contents if damage is None else {**contents, name: damage(TINY_MNIST[name])})
    with pytest.raises(DataError, match=message):
        data.load("mnist", data_dir=tmp_path)
    reports = data.verify("mnist", data_dir=tmp_path)
    assert [report.file for report in reports if not report.ok] == [name]
    assert str(reports[0]).startswith(f"{name}: mnist: ")
    assert f"{reports[1].file}: ok, SHA-256 {reports[1].sha256}, {reports[1].path}" == str(reports[1])


def test_another_data_set_with_files_of_the_same_names_is_refused(cache, tmp_path):
    put(tmp_path, TINY_MNIST)
    with pytest.raises(DataError, match=r"fashion-mnist: .* expected the 47040016 bytes of the published"):
        data.load("fashion-mnist", data_dir=tmp_path)


@NEEDS_MNIST
def test_mnist_itself():
    train, test = data.load("mnist"), data.load("mnist", split="test")
    assert (train.images.shape, test.images.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_allclose(train.statistics(), [[0.1307], [0.3081]], atol=1e-4)
    assert all(report.ok for report in data.verify("mnist"))


# --- downloads ---


def test_download_from_the_first_mirror_into_the_cache(cache, server, monkeypatch):
    server.serve("a", packed(TINY_MNIST))
    use_mirrors(monkeypatch, "mnist", server.url("a"), server.url("b"))
    np.testing.assert_array_equal(data.load("mnist").images[:, 0], IMAGES["train"])
    assert files_below(cache) == {f"mnist/{name}" for name in TINY_MNIST}
    assert server.asked == [f"/a/{name}.gz" for name in (f.name for f in SOURCES["mnist"].files)]
    assert len(data.load("mnist", split="test")) == 5
    assert data.fetch("mnist") == cache / "mnist"
    assert len(server.asked) == 4  # the second time everything is there


def test_to_measure_only_the_test_files_are_downloaded(cache, server, monkeypatch):
    put(cache / "mnist", {"train-images-idx3-ubyte": b"damaged"})
    server.serve("a", packed(TINY_MNIST))
    use_mirrors(monkeypatch, "mnist", server.url("a"))
    assert len(data.load("mnist", split="test")) == 5
    assert server.asked == [f"/a/{file.name}.gz" for file in SOURCES["mnist"].test]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {name: gzip.compress(content)[:-3] for name, content in TINY_MNIST.items()},
        {name: gzip.compress(content + b"\0") for name, content in TINY_MNIST.items()},
        {name: gzip.compress(content[:-1] + b"\xff") for name, content in TINY_MNIST.items()},
        dict.fromkeys(TINY_MNIST, b"<html>Please sign in</html>"),
        dict.fromkeys(TINY_MNIST, 503),
    ],
    ids=["absent", "cut short", "too long", "another content", "a sign-in page", "503"],
)
def test_a_mirror_that_fails_is_followed_by_the_next(cache, server, monkeypatch, broken):
    server.serve("bad", {f"{name}.gz": answer for name, answer in broken.items()})
    server.serve("good", packed(TINY_MNIST))
    use_mirrors(monkeypatch, "mnist", "http://127.0.0.1:9/", server.url("bad"), server.url("good"))
    assert len(data.load("mnist")) == 7
    assert files_below(cache) == {f"mnist/{name}" for name in TINY_MNIST}
    assert [path.split("/")[1] for path in server.asked] == ["bad"] + ["good"] * 4  # a mirror that failed is asked last


def test_a_broken_transfer_is_noticed(cache, server, monkeypatch):
    server.serve("a", packed(TINY_MNIST))
    server.missing_bytes = 10
    use_mirrors(monkeypatch, "mnist", server.url("a"))
    with pytest.raises(DataError, match=r"cannot download train-images-idx3-ubyte.gz of mnist"):
        data.load("mnist")
    assert files_below(cache) == set()


def test_a_mirror_may_serve_the_content_compressed_otherwise_or_not_at_all(cache, server, monkeypatch):
    server.serve("a", {f"{name}.gz": content for name, content in TINY_MNIST.items()})
    use_mirrors(monkeypatch, "mnist", server.url("a"))
    assert len(data.load("mnist")) == 7


def test_offline_names_mirrors_and_ways_out(cache):
    with pytest.raises(DataError) as caught:
        data.load("mnist")
    for part in (
        "mnist",
        "http://127.0.0.1:9/ (ConnectionError)",
        "data_dir=",
        "--data-dir",
        "FASTNN_DATA_DIR",
        "fastnn train digits",
    ):
        assert part in str(caught.value)
    assert files_below(cache) == set()


def test_what_failed_at_each_mirror_is_said(cache, server, monkeypatch):
    server.serve("a", dict.fromkeys((f"{name}.gz" for name in TINY_MNIST), 403))
    server.serve("b", packed({name: content + b"\0" for name, content in TINY_MNIST.items()}))
    use_mirrors(monkeypatch, "mnist", server.url("a"), server.url("b"))
    with pytest.raises(
        DataError, match=r"/a/ \(HTTP 403\); .*/b/ \(train-images-idx3-ubyte.gz: expected the 100 bytes"
    ):
        data.fetch("mnist")


def test_a_damaged_file_in_the_cache_is_fetched_again_alone(cache, server, monkeypatch):
    put(cache / "mnist", {**TINY_MNIST, "train-labels-idx1-ubyte": b"damaged"})
    server.serve("a", packed(TINY_MNIST))
    use_mirrors(monkeypatch, "mnist", server.url("a"))
    np.testing.assert_array_equal(data.load("mnist").labels, LABELS["train"])
    assert server.asked == ["/a/train-labels-idx1-ubyte.gz"]


def test_fetch_into_a_data_dir_that_load_then_reads(cache, server, monkeypatch, tmp_path):
    server.serve("a", packed(TINY_MNIST))
    use_mirrors(monkeypatch, "mnist", server.url("a"))
    target = tmp_path / "new" / "folder"
    assert data.fetch("mnist", data_dir=target) == target / "mnist"
    assert len(data.load("mnist", data_dir=target)) == 7
    assert not cache.exists()


def test_fetch_leaves_the_files_of_another_data_set_alone(cache, server, monkeypatch, tmp_path):
    """MNIST and Fashion-MNIST have files of the same names; what lies in the folder itself may be the other one."""
    other = dict.fromkeys(TINY_MNIST, b"other")
    put(tmp_path / "d", other)
    server.serve("a", packed(TINY_MNIST))
    use_mirrors(monkeypatch, "mnist", server.url("a"))
    assert data.fetch("mnist", data_dir=tmp_path / "d") == tmp_path / "d" / "mnist"
    assert all((tmp_path / "d" / name).read_bytes() == b"other" for name in other)
    assert len(data.load("mnist", data_dir=tmp_path / "d")) == 7


def test_archive_is_unpacked_by_base_names_into_its_own_folder(cache, server, monkeypatch, tmp_path):
    contents = {name: records.tobytes() for name, records in RECORDS.items()}
    hostile = archive_of({**contents, "extra.txt": b"x"}, folder="../../../escaped", links=contents)
    server.serve("a", {"cifar-10-binary.tar.gz": hostile})
    use_mirrors(monkeypatch, "cifar10", server.url("a"))
    assert len(data.load("cifar10", split="test")) == 3
    assert files_below(tmp_path) == {f"cache/fastnn/cifar10/{name}" for name in contents}


def test_broken_archives_are_refused_and_the_next_mirror_asked(cache, server, monkeypatch):
    contents = {name: records.tobytes() for name, records in RECORDS.items()}
    whole = archive_of(contents)
    lacking = {name: content for name, content in contents.items() if name != "test_batch.bin"}
    for mirror, archive in (("cut", whole[:-2000]), ("lacking", archive_of(lacking)), ("html", b"<html>")):
        server.serve(mirror, {"cifar-10-binary.tar.gz": archive})
    mirrors = [server.url(mirror) for mirror in ("cut", "lacking", "html")]
    use_mirrors(monkeypatch, "cifar10", *mirrors)
    with pytest.raises(DataError) as caught:
        data.fetch("cifar10")
    for part in ("truncated or corrupt", "expected test_batch.bin in the archive", "expected a tar archive"):
        assert part in str(caught.value)
    server.serve("whole", {"cifar-10-binary.tar.gz": whole})
    use_mirrors(monkeypatch, "cifar10", *mirrors, server.url("whole"))
    assert len(data.load("cifar10")) == 10


def test_progress_is_shown_when_asked_for_and_not_otherwise(cache, server, monkeypatch, tmp_path, capfd):
    server.serve("a", packed(TINY_MNIST))
    use_mirrors(monkeypatch, "mnist", server.url("a"))
    logged = []
    handler = logging.Handler()
    handler.emit = logged.append
    monkeypatch.setattr(pooch.get_logger(), "handlers", [handler])
    data.fetch("mnist", data_dir=tmp_path / "quiet")  # standard error is no terminal here
    assert capfd.readouterr() == ("", "")
    assert logged == []
    data.fetch("mnist", data_dir=tmp_path / "shown", progress=True)
    assert "train-images-idx3-ubyte.gz: 100%" in capfd.readouterr().err


def test_a_folder_that_cannot_be_written_is_said(cache, server, monkeypatch, tmp_path):
    server.serve("a", packed(TINY_MNIST))
    use_mirrors(monkeypatch, "mnist", server.url("a"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot keep mnist in .*: Not a directory"):
        data.fetch("mnist", data_dir=tmp_path / "file")
