"""ASE databases in PostgreSQL: database.path is an address, postgresql://user:password@host:port/name.

The password may stay out of the address: PGPASSWORD or ~/.pgpass give it as for every client of PostgreSQL.
Only reads, in transactions that the server holds to that. Takes ase-db-backends: pip install "forcefoundry[postgres]".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from forcefoundry.databases.formats._address import Address
from forcefoundry.databases.formats._rows import converted, know_external_tables, statement
from forcefoundry.databases.formats._told import words

SERVED = True

ROWS = 1000
"""Rows that are asked for at once."""

PATIENCE = 30
"""Seconds in which the server must answer, unless the address says connect_timeout=..."""

NOT = "cannot be read as an ASE database in PostgreSQL"
"""What an error says of a row or a database."""

_READ_ONLY = "25006"  # PostgreSQL's code for an attempt to write in a transaction that only reads
_QUOTED = "with signs such as @ and / in a password as %40 and %2F"


def read(address: Address) -> Iterator[Any]:
    """The rows as they are at one moment, in the order of their ids, Unreadable where one is damaged.

    Errors show the address without its password.

    Raises:
        ValueError: for an address that is none, a server that does not answer or refuses, and a database without
            ASE's tables.
    """
    with _told(address, ""):
        database, connection = _opened(address)
    last = 0
    with closing(connection):
        while True:
            with _told(address, f", after row {last}"):
                cursor = database.connection.cursor()
                cursor.execute(statement(database, ROWS), (last,))
                rows = cursor.fetchall()
            if not rows:
                return
            for last, atoms in converted(database, rows, lambda error: address.hidden_in(words(error))):
                yield f"row {last}", atoms


def _opened(address: Address) -> tuple[Any, Any]:
    try:
        import psycopg2
        from ase_db_backends.postgresql import Connection, PostgreSQLDatabase
    except ImportError as error:
        raise ValueError(f"it takes a package more: pip install 'forcefoundry[postgres]'; {error}") from None
    more = {} if "connect_timeout=" in address.full else {"connect_timeout": PATIENCE}
    client = psycopg2.connect(address.full, **more)
    # ASE would make its tables where there are none.
    client.set_session(isolation_level="REPEATABLE READ", readonly=True)
    database = PostgreSQLDatabase(address.full, create_indices=False)
    # One transaction for all that is asked: ASE, which counts what it asks, would begin a new one now and then.
    database.connection = Connection(client)
    database.connection.commit = lambda: None
    database.change_count = 0
    know_external_tables(database)
    return database, client


@contextmanager
def _told(address: Address, where: str) -> Iterator[None]:
    # Errors of the client may quote the address; a chained one would show it again, so the chain is cut.
    try:
        yield
    except Exception as error:
        if getattr(error, "pgcode", None) == _READ_ONLY:
            said = "it holds no tables of ASE's"
        elif any(sign in str(error) for sign in ("dsn", "URI", "invalid port", "invalid integer")):
            said = f"the address is none. Write postgresql://user@host:port/name, {_QUOTED}"
        else:
            said = address.hidden_in(words(error))
        raise ValueError(f"{address}{where}: {NOT} ({said}).") from None
