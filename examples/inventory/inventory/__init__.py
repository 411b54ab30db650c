"""What callers import."""

from .client import Client
from .stock import UnknownSku, fetch_stock

__all__ = ["Client", "UnknownSku", "fetch_stock"]
