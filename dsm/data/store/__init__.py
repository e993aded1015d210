"""Token stores: documents as token ids on disk, written once by `stage=tokenize`, read at any position ever after."""

from dsm.data.store.reader import TokenStore

__all__ = ["TokenStore"]
