"""Named columns and splits."""

from forcefoundry.databases.database import Database
from forcefoundry.databases.padded import from_padded

__all__ = ["Database", "from_padded"]
