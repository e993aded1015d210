"""The mix: sequence i of a run -> (source, epoch, row) -> documents, all by arithmetic from i."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.config.mix import MixConfig, Segment
from dsm.data.batch import Document
from dsm.data.mixture.bestfit import packed
from dsm.data.mixture.permute import key_of, permute
from dsm.data.mixture.schedule import Schedule
from dsm.data.mixture.sources import ROWS, BestFitRows, CutRows, Pieces, Rows, cut_pieces
from dsm.data.store import TokenStore
from dsm.errors import UserError

Ints = NDArray[np.int64]


class Mixture:
    """The packed sequences of a run, in an order that depends on the stores, the settings and the seed alone.

    Nothing in it changes as it is read: the state of a run is the number of its next sequence. Workers may take copies.

    Attributes:
        names: the sources, by the numbers that documents carry.
        stores: their token stores.
        schedule: the order of sources.
        facts: what makes the order, by name; a run goes on only where all are the same.
    """

    def __init__(
        self,
        config: MixConfig,
        stores: Mapping[str, TokenStore],
        held_out: Mapping[str, TokenStore],
        *,
        seed: int,
        cache: Path,
        sequences: int | None = None,
    ) -> None:
        """See `open`; `stores` in the order of the sources, `held_out` by the names to report."""
        self.names, self.stores = list(stores), list(stores.values())
        self._config, self._held_out, self._sequences = config, dict(held_out), sequences
        self._trained = np.ones(config.context, dtype=np.bool_)
        self._sources: list[Rows] = []
        for number, (name, store) in enumerate(stores.items()):
            if store.tokens < config.context:
                raise UserError(
                    f"mix.sources.{name}.path={config.store(name)}: holds {store.tokens:,} tokens, less than one"
                    f" sequence; allowed are a mix.context of that many at most, or to leave it out"
                )
            if config.packing == "cut":
                self._sources.append(CutRows(store, config.context, config.mask_documents, (seed, number)))
            else:
                self._sources.append(BestFitRows(packed(store, config.context, cache), (seed, number)))
        self._seed, self._per_epoch = seed, np.asarray([source.per_epoch for source in self._sources], dtype=np.int64)
        rows = dict(zip(self.names, self._per_epoch.tolist(), strict=True))
        segments = config.segments(rows, sequences)
        if sequences is not None:
            config.expected(sequences, rows)  # refuses more epochs than are allowed
        self.schedule = Schedule(segments)
        self.facts = {
            "mix.context": str(config.context),
            "mix.packing": config.packing,
            "mix.mask_documents": str(config.mask_documents).lower(),
            "mix.sources": ", ".join(self.names),
            "mix.weights": "; ".join(
                f"from sequence {segment.first:,}: {self._shares(segment)}" for segment in segments
            ),
            "seed": str(seed),
        }
        self.facts |= {
            f"mix.sources.{name}": f"{store.tokens:,} tokens, {store.fingerprint}" for name, store in stores.items()
        }

    @classmethod
    def open(
        cls,
        config: MixConfig,
        *,
        seed: int,
        cache: Path,
        sequences: int | None = None,
        vocab_size: int | None = None,
        tokenizer_hash: str | None = None,
    ) -> Mixture:
        """Open the stores, and pack them where `packing=best_fit` and the cache does not have it; one process first.

        Args:
            seed: chooses the permutations.
            cache: folder for packings.
            sequences: of the whole run, to refuse more epochs than a source allows.
            vocab_size: rows of the model's embedding.
            tokenizer_hash: the tokenizer's fingerprint; a store that states another is refused.

        Raises:
            UserError: a store is missing, damaged, too small, of another tokenizer, or would be read too often.
        """

        def opened(path: str | Path, key: str) -> TokenStore:
            store = TokenStore.open(path, vocab_size=vocab_size, key=key)
            if tokenizer_hash is not None and store.tokenizer_hash not in (None, tokenizer_hash):
                raise UserError(
                    f"{key}={path}: made with another tokenizer than tokenizer.path (fingerprints"
                    f" {str(store.tokenizer_hash)[:12]}, {tokenizer_hash[:12]}); allowed is the one it was made with"
                )
            return store

        stores = {name: opened(config.store(name), f"mix.sources.{name}.path") for name in config.sources}
        held_out = {}
        if config.validation.sequences:
            for name, store in stores.items():
                if name not in config.validation.sources and store.validation is not None:
                    held_out[name] = opened(store.validation, f"mix.sources.{name}.path")
            for name, source in config.validation.sources.items():
                held_out[name] = opened(source.path, f"mix.validation.sources.{name}.path")
        return cls(config, stores, held_out, seed=seed, cache=cache, sequences=sequences)

    def __getitem__(self, number: int) -> list[Document]:
        """The documents of one sequence, counted from the start of the run."""
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[list[Document]]:
        """Several sequences at once, which takes much less time than one by one."""
        sources, epochs, rows = self._locate(np.asarray(numbers, dtype=np.int64))
        found: list[list[Document]] = [[]] * len(sources)
        for source in np.unique(sources).tolist():
            here = np.flatnonzero(sources == source)
            pieces = self._sources[source].pieces(epochs[here], rows[here])
            for place, row in zip(here.tolist(), self._documents(self.stores[source], pieces, source), strict=True):
                found[place] = row
        return found

    def validation(self) -> dict[str, list[list[Document]]]:
        """The first sequences of each held-out store, the last of them maybe shorter.

        Their documents carry the numbers of the names in this dictionary.
        """
        found, context = {}, self._config.context
        for number, (name, store) in enumerate(self._held_out.items()):
            starts = np.arange(0, max(store.tokens - 1, 0), context)[: self._config.validation.sequences]
            stops = np.minimum(starts + context, store.tokens)
            pieces = cut_pieces(store, starts, stops, self._config.mask_documents)
            found[name] = self._documents(store, pieces, number)
        return found

    def locate(self, number: int) -> tuple[int, int, int]:
        """Source, epoch, and row within the source, of a sequence."""
        sources, epochs, rows = self._locate(np.asarray([number], dtype=np.int64))
        return int(sources[0]), int(epochs[0]), int(rows[0])

    def counts(self, sequences: int) -> Ints:
        """(S,) how many of the first so many sequences come of each source."""
        return self.schedule.counts(sequences)

    def epochs(self, sequences: int) -> dict[str, float]:
        """How often the first so many sequences pass over each source."""
        return dict(zip(self.names, (self.counts(sequences) / self._per_epoch).tolist(), strict=True))

    def _locate(self, numbers: Ints) -> tuple[Ints, Ints, Ints]:
        """(N,) source, epoch, and row: in every epoch of a source a fresh permutation of its rows."""
        sources, ordinals = self.schedule.locate(numbers)
        sizes = self._per_epoch[sources]
        epochs, places = np.divmod(ordinals, sizes)
        return sources, epochs, permute(places, sizes, key_of(self._seed, sources, ROWS, epochs))

    def _documents(self, store: TokenStore, pieces: Pieces, source: int) -> list[list[Document]]:
        """Pieces as documents; as one document a row where documents are not masked."""
        lengths, trained = (pieces.stops - pieces.starts).tolist(), self._trained
        found = store.read_many(pieces.starts, pieces.stops + pieces.goes_on)
        documents = [
            Document(tokens[:length], trained[:length], source, tokens.item(length) if more else None)
            for tokens, length, more in zip(found, lengths, pieces.goes_on.tolist(), strict=True)
        ]
        rows = [documents[first:last] for first, last in pairwise(pieces.rows.tolist())]
        if self._config.mask_documents or len(documents) == len(rows):
            return rows
        return [[self._joined(row)] for row in rows]

    def _joined(self, row: list[Document]) -> Document:
        """The documents of a row as one."""
        ids = np.concatenate([document.ids for document in row])
        return Document(ids, self._trained[: len(ids)], row[0].source, row[-1].following)

    def _shares(self, segment: Segment) -> str:
        """As a person says it: 'from sequence 0: math 7, code 3 of 10'."""
        weights = ", ".join(f"{name} {weight}" for name, weight in zip(self.names, segment.weights, strict=True))
        return f"from sequence {segment.first:,}: {weights} of {segment.period:,}"

    def about(self) -> dict[str, str]:
        """What a person wants to see of each source before the run; passes over the document ends once."""
        found = {}
        for name, store, source in zip(self.names, self.stores, self._sources, strict=True):
            text = f"{store.tokens:,} tokens in {store.documents:,} documents; {source.describe()}"
            if self._sequences is not None:
                text += f"; read {self.epochs(self._sequences)[name]:.3g} times"
            found[f"source {name}"] = text
        found["shares"] = self.facts["mix.weights"]
        for name, rows in self.validation().items():
            tokens = sum(len(document.ids) for row in rows for document in row)
            found[f"held out, {name}"] = f"{len(rows):,} sequences, {tokens:,} tokens"
        return found
