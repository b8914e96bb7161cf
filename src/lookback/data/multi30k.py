"""Multi30k: 31,014 image captions in English, German and French (Elliott et al. 2016, 2017).

29,000 pairs to train on, 1,014 to validate, 1,000 to test (``test_2016_flickr``); about 12 words a
sentence. Its home, https://github.com/multi30k/dataset, states no licence; the English captions are
Flickr30k's, given for non-commercial research and education.

The course never carries the corpus. It is read from the folder that the environment variable
``LOOKBACK_DATA`` names, or else downloaded once from its home, and checked.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

HOME = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"
PARTS = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
LANGUAGES = ("de", "en", "fr")
SHA256 = {
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.fr.gz": "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.fr.gz": "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.fr.gz": "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
}


def load(
    part: str = "train",
    *,
    source: str = "en",
    target: str = "de",
    limit: int | None = None,
    folder: Path | str | None = None,
) -> list[tuple[str, str]]:
    """Read sentence pairs.

    Args:
        part: ``"train"``, ``"validation"`` or ``"test"``.
        source, target: languages: ``"de"``, ``"en"`` or ``"fr"``.
        limit: how many pairs, from the first on; all when left out.
        folder: where ``train.en.gz`` and its kin lie; what ``LOOKBACK_DATA`` names when left out,
            else the downloads' own.

    Returns:
        Pairs of source and target sentence.

    Raises:
        ValueError: if the part or a language is unknown, ``limit`` is below 1, a file is damaged or
            not UTF-8, the two have different numbers of lines, or a download's checksum is wrong
            (the file is removed).
        FileNotFoundError: if the folder does not hold the file.
        ConnectionError: if the file must be downloaded and cannot be.
    """
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}; choose one of {', '.join(PARTS)}")
    for language in (source, target):
        if language not in LANGUAGES:
            raise ValueError(f"unknown language {language!r}; choose one of {', '.join(LANGUAGES)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 pair, got {limit}")
    folder = folder or os.environ.get("LOOKBACK_DATA")
    names = [f"{PARTS[part]}.{language}.gz" for language in (source, target)]
    paths = [_in_folder(Path(folder), name) if folder else download(name) for name in names]
    sides = [_lines(path) for path in paths]
    if len(sides[0]) != len(sides[1]):
        counts = ", ".join(f"{p.name} {len(s)}" for p, s in zip(paths, sides, strict=True))
        raise ValueError(f"translations must go line by line, but the numbers differ: {counts}")
    return list(zip(*sides, strict=True))[:limit]


def download(name: str, *, cache: Path | str | None = None) -> Path:
    """Fetch one file from the corpus' home, unless it lies in the cache already, and check it.

    A file gets its name only once its checksum is right: nothing half-written or damaged stays.

    Args:
        name: as ``train.en.gz``.
        cache: folder of downloads; the user's cache folder when left out.

    Raises:
        ValueError: if the name is unknown or the checksum wrong.
        ConnectionError: if the file cannot be had.
    """
    if name not in SHA256:
        raise ValueError(f"unknown file {name!r}; choose one of {', '.join(SHA256)}")
    import pooch
    import requests

    cache = Path(pooch.os_cache("lookback") if cache is None else cache) / "multi30k"
    try:
        found = pooch.retrieve(HOME + name, f"sha256:{SHA256[name]}", fname=name, path=cache)
    except requests.RequestException as error:
        raise ConnectionError(
            f"cannot download {name} from {HOME} ({type(error).__name__}). Without a network, set "
            f"LOOKBACK_DATA to a folder that holds it"
        ) from error
    return Path(found)


def _in_folder(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"{folder} does not hold {name}: set LOOKBACK_DATA to the folder with Multi30k's "
            f"files, or unset it to download them"
        )
    return folder / name


def _lines(path: Path) -> list[str]:
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: byte {error.start}, {error.reason}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged, no whole gzip file: {error}") from error
    return [line.strip() for line in text.removesuffix("\n").split("\n")]
