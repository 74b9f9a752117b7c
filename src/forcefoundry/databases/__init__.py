"""Named columns and splits."""

from forcefoundry.databases.database import Database

__all__ = ["Database"]
