"""Multi30k from a folder and over the wire: what arrives is whole, or nothing stays."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import threading

import pytest

from lookback.data import multi30k

ENGLISH = ["Two men.", "A dog runs .", "Café at night."]
GERMAN = ["Zwei Männer.", "Ein Hund läuft.", "Café bei Nacht."]


def write(folder, name: str, lines: list[str]) -> bytes:
    data = gzip.compress(("\n".join(lines) + "\n").encode("utf-8"), mtime=0)
    (folder / name).write_bytes(data)
    return data


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A small corpus in a folder that LOOKBACK_DATA names."""
    for part in multi30k.PARTS.values():
        write(tmp_path, f"{part}.en.gz", ENGLISH)
        write(tmp_path, f"{part}.de.gz", GERMAN)
    monkeypatch.setenv("LOOKBACK_DATA", str(tmp_path))
    return tmp_path


def test_pairs_come_line_by_line_in_the_direction_asked_for(folder):
    assert multi30k.load() == list(zip(ENGLISH, GERMAN, strict=True))
    assert multi30k.load("test", source="de", target="en", limit=2) == [
        (GERMAN[0], ENGLISH[0]),
        (GERMAN[1], ENGLISH[1]),
    ]


def test_a_folder_given_by_hand_goes_before_the_environments(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write(other, "val.en.gz", ["one"])
    write(other, "val.de.gz", ["eins"])
    assert multi30k.load("validation", folder=other) == [("one", "eins")]


def test_unequal_line_counts_are_named(folder):
    write(folder, "train.de.gz", GERMAN[:2])
    with pytest.raises(ValueError, match=r"train\.en\.gz 3, train\.de\.gz 2"):
        multi30k.load()


def test_a_file_that_is_not_utf_8_is_named_with_the_byte(folder):
    (folder / "train.de.gz").write_bytes(gzip.compress("Zwei Männer.\n".encode("latin-1")))
    with pytest.raises(ValueError, match=r"train\.de\.gz is not UTF-8: byte 6"):
        multi30k.load()


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"no gzip" + data])
def test_a_damaged_file_is_named(folder, damage):
    (folder / "train.en.gz").write_bytes(damage((folder / "train.en.gz").read_bytes()))
    with pytest.raises(ValueError, match=r"train\.en\.gz is damaged, no whole gzip file"):
        multi30k.load()


def test_a_folder_without_the_files_says_what_to_set(folder):
    with pytest.raises(FileNotFoundError, match=r"does not hold train\.fr\.gz: set LOOKBACK_DATA"):
        multi30k.load(target="fr")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: multi30k.load("dev"), "unknown part 'dev'; choose one of train, validation, test"),
        (lambda: multi30k.load(source="cs"), "unknown language 'cs'; choose one of de, en, fr"),
        (lambda: multi30k.load(limit=0), "limit must be at least 1 pair, got 0"),
        (lambda: multi30k.download("train.cs.gz"), "unknown file 'train.cs.gz'"),
    ],
)
def test_the_corpus_names_what_it_does_not_know(run, message):
    with pytest.raises(ValueError, match=message):
        run()


class Home:
    """A stand-in for the corpus' home: answers with ``data``, or cuts the line after half of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.cut, self.requests = data, False, 0
        home = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                home.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(home.data)))
                self.end_headers()
                self.wfile.write(home.data[: len(home.data) // 2] if home.cut else home.data)

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def home(tmp_path, monkeypatch):
    data = write(tmp_path, "original.gz", ENGLISH)
    home = Home(data)
    monkeypatch.setattr(multi30k, "HOME", home.url)
    monkeypatch.setitem(multi30k.SHA256, "train.en.gz", hashlib.sha256(data).hexdigest())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LOOKBACK_DATA", raising=False)
    yield home
    home.server.shutdown()
    home.server.server_close()


def kept(cache) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_a_download_is_checked_and_fetched_once(home, tmp_path):
    cache = tmp_path / "cache"
    path = multi30k.download("train.en.gz", cache=cache)
    assert path.read_bytes() == home.data
    assert multi30k.download("train.en.gz", cache=cache) == path
    assert home.requests == 1
    assert kept(cache) == ["train.en.gz"]


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(home, tmp_path):
    cache = tmp_path / "cache"
    home.data = home.data[:-1] + b"x"
    with pytest.raises(ValueError, match="does not match the known hash"):
        multi30k.download("train.en.gz", cache=cache)
    assert kept(cache) == []


def test_a_download_cut_short_is_an_error_and_leaves_nothing(home, tmp_path):
    cache = tmp_path / "cache"
    home.cut = True
    with pytest.raises(ConnectionError, match="set LOOKBACK_DATA to a folder that holds it"):
        multi30k.download("train.en.gz", cache=cache)
    assert kept(cache) == []
    home.cut = False
    assert multi30k.download("train.en.gz", cache=cache).read_bytes() == home.data


def test_a_file_damaged_in_the_cache_is_fetched_anew(home, tmp_path):
    cache = tmp_path / "cache"
    path = multi30k.download("train.en.gz", cache=cache)
    path.write_bytes(b"damaged")
    assert multi30k.download("train.en.gz", cache=cache).read_bytes() == home.data


def test_without_folder_and_network_the_error_says_what_to_set(home, tmp_path, monkeypatch):
    home.server.shutdown()
    home.server.server_close()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ConnectionError, match=r"cannot download .* set LOOKBACK_DATA"):
        multi30k.load()


@pytest.mark.skipif("LOOKBACK_DATA" not in os.environ, reason="LOOKBACK_DATA names no folder")
def test_the_real_corpus_has_its_sizes_and_its_checksums():
    for part, size in (("train", 29_000), ("validation", 1_014), ("test", 1_000)):
        for target in ("de", "fr"):
            assert len(multi30k.load(part, target=target)) == size
    for name, known in multi30k.SHA256.items():
        with open(os.path.join(os.environ["LOOKBACK_DATA"], name), "rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == known
    assert multi30k.load(limit=1)[0][1].startswith("Zwei junge weiße Männer")
