"""ASE's PostgreSQL database against a real server, which these tests start on a port of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ase.db
import numpy as np
import pytest

from forcefoundry.databases.formats import Unreadable, ase_postgres, place, read_rows
from forcefoundry.databases.loading import load_database
from tests.databases.formats.writers import drawn, label, same
from tests.databases.test_loading import config

psycopg2 = pytest.importorskip("psycopg2", reason="ase-db-backends is not installed: pip install '.[postgres]'")

PASSWORD = "s3cr/t@of:all"
QUOTED = "s3cr%2Ft%40of%3Aall"


@dataclass(frozen=True)
class Server:
    """A running server: its port, and addresses of its databases."""

    port: int

    def address(self, name: str, password: str | None = QUOTED) -> str:
        return f"postgresql://forge{'' if password is None else ':' + password}@127.0.0.1:{self.port}/{name}"

    def run(self, name: str, *statements: str) -> list[tuple[object, ...]]:
        """Execute statements one by one; the last one's rows."""
        connection = psycopg2.connect(self.address(name))
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
        connection.close()
        return rows

    def filled(self, name: str, n: int) -> str:
        """The address of a new database of `drawn(n)`."""
        self.run("postgres", f"CREATE DATABASE {name}")
        with ase.db.connect(self.address(name)) as database:
            for row in drawn(n):
                database.write(row, **row.info)
        return self.address(name)


def binaries() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((place for place in reversed(places) if (place / "initdb").exists()), None)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """PostgreSQL refuses to run as root, and nobody cannot enter root's temporary folders: it gets one of its own."""
    folder = binaries()
    if folder is None:
        pytest.skip("there is no PostgreSQL server here: apt-get install postgresql")
    as_nobody = []
    home = Path(tempfile.mkdtemp(prefix="forcefoundry-pg-"))
    (home / "password").write_text(PASSWORD)
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL refuses root, and there is no setpriv to become someone else")
        as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig", "QUIT"]
        for path in (home, home / "password"):
            os.chown(path, 65534, 65534)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    create = [
        folder / "initdb",
        "-D",
        home / "data",
        "-U",
        "forge",
        "--auth=scram-sha-256",
        f"--pwfile={home}/password",
    ]
    subprocess.run(
        [*as_nobody, *create, "--no-sync", "-E", "UTF8", "--no-locale"], check=True, capture_output=True, cwd=home
    )
    start = [folder / "postgres", "-D", home / "data", "-p", str(port), "-k", home, "-c", "fsync=off"]
    running = subprocess.Popen([*as_nobody, *start], cwd=home, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                Server(port).run("postgres")
                break
            except psycopg2.OperationalError:
                assert running.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield Server(port)
    finally:
        running.send_signal(signal.SIGINT)  # ends connections and itself
        running.wait(30)
        shutil.rmtree(home)


def refused(address: str) -> str:
    """What a reader says, with everything that a traceback would show; the password is in none of it."""
    with pytest.raises(ValueError, match="cannot be read as an ASE database in PostgreSQL") as caught:
        list(read_rows("ase_postgres", place(address)))
    shown = "".join(traceback.format_exception(caught.value))
    for secret in (PASSWORD, QUOTED, "s3cr", "wr0ng"):
        assert secret not in shown
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_written_comes_back_page_by_page(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    address = server.filled("round", 24)
    with ase.db.connect(address) as database:
        database.delete([9])
    monkeypatch.setattr(ase_postgres, "ROWS", 7)
    found = dict(read_rows("ase_postgres", place(address)))
    rows = {f"row {number}": row for number, row in enumerate(drawn(24), start=1) if number != 9}
    assert list(found) == list(rows)
    assert all(same(found[where], row) for where, row in rows.items())
    assert [atoms.info["molecule"] for atoms in found.values()] == [row.info["molecule"] for row in rows.values()]
    assert all(atoms.positions.dtype == label(atoms, "forces").dtype == np.float64 for atoms in found.values())


def test_rows_that_come_meanwhile_are_for_the_next_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    address = server.filled("meanwhile", 4)
    monkeypatch.setattr(ase_postgres, "ROWS", 2)
    rows = read_rows("ase_postgres", place(address))
    first = next(rows)
    with ase.db.connect(address) as database:
        database.write(drawn(1)[0])
    assert [where for where, _ in [first, *rows]] == [f"row {number}" for number in range(1, 5)]


def test_the_loader_shows_no_password_and_takes_it_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.filled("loaded", 20)
    with_password, summary = load_database(config(server.address("loaded"), "ase_postgres"))  # type: ignore[arg-type]
    assert summary["source"] == f"postgresql://forge:***@127.0.0.1:{server.port}/loaded"
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    without = server.address("loaded", password=None)
    again, _ = load_database(config(without, "ase_postgres"))  # type: ignore[arg-type]
    for name, values in with_password.columns.items():
        np.testing.assert_array_equal(values, again.columns[name])
    np.testing.assert_array_equal(again.columns["energy"], [label(row, "energy") for row in drawn(20)])


def test_a_database_without_rows_or_tables_is_told_and_left_as_it_is(server: Server) -> None:
    server.run("postgres", "CREATE DATABASE bare")
    assert "it holds no tables of ASE's" in refused(server.address("bare"))
    assert server.run("bare", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    address = server.filled("empty", 0)
    with ase.db.connect(address) as database:
        assert len(database) == 0
    with pytest.raises(ValueError, match=r"postgresql://forge:\*\*\*@.*/empty is empty"):
        load_database(config(address, "ase_postgres"))  # type: ignore[arg-type]


def test_what_the_server_refuses_is_told(server: Server) -> None:
    assert "password authentication failed" in refused(server.address("postgres", "wr0ng"))
    assert 'database "nowhere" does not exist' in refused(server.address("nowhere"))
    assert "Connection refused" in refused(f"postgresql://forge:{QUOTED}@127.0.0.1:1/name")


@pytest.mark.parametrize("written", [PASSWORD, "s3cr/t", "s3cr@t", "s3cr:t", "s3cr%t"])
def test_a_password_with_signs_as_they_are_is_not_shown(server: Server, written: str) -> None:
    assert "***" in refused(server.address("postgres", written))


def test_a_password_behind_the_question_mark_is_not_shown(server: Server) -> None:
    assert "password=***" in refused(f"{server.address('nowhere', None)}?password={QUOTED}")


@pytest.mark.parametrize(
    "damage",
    [
        "positions = NULL",
        "numbers = NULL",
        "positions = '{{1,2,3}}'",
        "data = '[1, 2]'",
        "constraints = 'none'",
    ],
)
def test_a_damaged_row_is_named(server: Server, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"damaged_{abs(hash(damage))}"
    address = server.filled(name, 8)
    server.run(name, f"UPDATE systems SET {damage} WHERE id = 6")
    monkeypatch.setattr(ase_postgres, "ROWS", 5)
    assert re.search(r", (after row 5|row 6): cannot be read", refused(address))


ARRAYS = ("positions", "cell", "initial_charges", "masses", "momenta", "forces", "stress", "dipole", "magmoms")
NUMBERS = ("pbc", "energy", "free_energy", "magmom")
TEXTS = ("constraints", "calculator", "calculator_parameters", "key_value_pairs", "data")
WORDS = (
    "null",
    "1",
    '"x"',
    "[]",
    "{}",
    "[[1]]",
    '{"molecule": null}',
    '{"numbers": 1}',
    '{"__ndarray__": [[2], "int"]}',
)


def odd(column: str, rng: np.random.Generator) -> object:
    """Some value that a column may hold."""
    if rng.random() < 0.15:
        return None
    if column in NUMBERS:
        return [-1, 0, 7, 2**31 - 1][rng.integers(4)]
    if column in TEXTS:
        return WORDS[rng.integers(len(WORDS))]
    shape = rng.integers(0, 8, rng.integers(1, 3)).tolist()
    if column in ("numbers", "tags"):
        return rng.choice([-1, 0, 1, 8, 118, 119, 2**31 - 1], shape).tolist()
    return rng.choice([0.0, 1.5, -1e300, np.nan, np.inf], shape).tolist()


def fuzz(server: Server, name: str, examples: int, seed: int) -> None:
    """One to three values changed: rows that were not touched come as they were; the others are structures, or told."""
    address, rows = place(server.filled(name, 8)), drawn(8)
    server.run(name, "CREATE TABLE whole AS SELECT * FROM systems")
    columns = ("numbers", "tags", *ARRAYS, *NUMBERS, *TEXTS)
    back = ", ".join(f"{column} = whole.{column}" for column in columns)
    connection = psycopg2.connect(server.address(name))
    connection.autocommit = True
    changed = 0
    with connection.cursor() as cursor:
        for example in range(examples):
            rng = np.random.default_rng([seed, example])
            touched = rng.integers(1, 9, rng.integers(1, 4)).tolist()
            for row in touched:
                column = columns[rng.integers(len(columns))]
                try:
                    cursor.execute(f"UPDATE systems SET {column} = %s WHERE id = %s", (odd(column, rng), row))
                    changed += 1
                except psycopg2.Error:
                    continue  # the server keeps it out: a number where an array has to be, say
            found = list(read_rows("ase_postgres", address, unreadable="yield"))
            assert [where for where, _ in found] == [f"row {at}" for at in range(1, 9)], (seed, example)
            for at, (_, atoms) in enumerate(found, 1):
                if at not in touched:
                    assert same(atoms, rows[at - 1]), (seed, example)
                elif isinstance(atoms, Unreadable):
                    assert atoms.reason
                    assert "\n" not in atoms.reason
                    assert atoms.raw
                else:
                    assert atoms.positions.shape == (len(atoms), 3)
            cursor.execute(f"UPDATE systems SET {back} FROM whole WHERE systems.id = whole.id")
    connection.close()
    assert changed > examples


def test_values_of_rows_changed(server: Server) -> None:
    fuzz(server, "fuzzed", 80, seed=0)


@pytest.mark.slow
def test_many_more_values_of_rows_changed(server: Server) -> None:
    fuzz(server, "fuzzed_more", 1000, seed=1)


def test_forces_of_another_shape_are_told_by_the_loader(server: Server) -> None:
    address = server.filled("odd", 8)
    server.run("odd", "UPDATE systems SET forces = '{{1,2},{3,4}}' WHERE id = 6")
    with pytest.raises(ValueError, match=r"/odd, row 6: forces \(key 'forces'.*\) has shape \(2, 2\)"):
        load_database(config(address, "ase_postgres"))  # type: ignore[arg-type]


def test_without_the_package_it_says_what_to_install(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ase_db_backends.postgresql", None)
    assert "pip install 'forcefoundry[postgres]'" in refused(server.address("postgres"))
