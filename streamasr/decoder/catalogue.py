"""A catalogue of music as names that can be spoken."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from streamasr.decoder.classes import ARTIST_CARRIERS, TITLE_CARRIERS, Phrase, PhraseClass
from streamasr.decoder.spoken import spoken_forms
from streamasr.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Catalogue:
    """``classes``: the titles and the artists as they are spoken, each as likely as often the
    file has it; ``unspoken`` are those that cannot be, each with the reason."""

    classes: tuple[PhraseClass, ...]
    unspoken: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> "Catalogue":
        """Read a table with a header that has ``title`` and ``artist``, tab-separated (CSV
        where the file's name ends in ``.csv``); other columns are left alone.

        Raises ConfigError where the file cannot be read, lacks a column, or has no name that
        can be spoken.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                if path.suffix.lower() == ".csv":
                    table = csv.DictReader(file)
                else:
                    table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                columns = table.fieldnames or ()
                if "title" not in columns or "artist" not in columns:
                    raise ConfigError(
                        f"catalogue {path} must begin with a header that has title and artist, "
                        "tab-separated"
                    )
                rows = [(row["title"] or "", row["artist"] or "") for row in table]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"catalogue {path} cannot be read: {error}") from None
        classes = []
        unspoken: dict[str, None] = {}
        for column, carriers in ((0, TITLE_CARRIERS), (1, ARTIST_CARRIERS)):
            spoken: dict[str, list[Phrase]] = {}
            for name in dict.fromkeys(row[column] for row in rows):
                try:
                    spoken[name] = spoken_forms(name)
                except ValueError as reason:
                    spoken[name] = []
                    unspoken[f"{name!r} ({reason})"] = None
            phrases = Counter(form for row in rows for form in spoken[row[column]])
            classes.append(PhraseClass(phrases, carriers))
        if not any(each.phrases for each in classes):
            raise ConfigError(f"catalogue {path} has no title or artist that can be spoken")
        return cls(tuple(classes), tuple(unspoken))
